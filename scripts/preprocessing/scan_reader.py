"""How every stage reads scans and label maps, and what a scan has to be there: the rules of the data set's check."""

import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, MetaTensor
from monai.data.image_reader import PILReader
from monai.transforms import LoadImage, MapTransform
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from scripts.dataset.datalist_file import is_photograph
from scripts.dataset.problems import Kind, Problem, VolumeError, sentence
from scripts.dataset.scan_rules import check_scan_arrays
from scripts.dataset.volume_file import VolumeFile, read_volume_file

logger = logging.getLogger(__name__)

ROWS = 4
WARNINGS, TAKEN_FROM = "warnings", "taken_from"
"""Keys of a scan's meta data: sentences, one a line, and what in its header gives its place."""


class ScanReader(ImageReader):
    """MONAI's interface to the bundle's reader; photographs are read by MONAI's own."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Any file: what cannot be read is refused with a sentence."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> str:
        """Only the path: LoadImage would turn to its other readers where this raises, and they take what is refused."""
        return str(ensure_tuple(data)[0])

    def get_data(self, img: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Voxels and meta data of a path; raises what :func:`read_volume_file` raises."""
        if is_photograph(img):
            reader = PILReader()
            return cast("tuple[np.ndarray, dict[str, Any]]", reader.get_data(reader.read(img)))
        volume = read_volume_file(img)
        return _last_axis_fastest(volume.voxels), meta_of(volume)


def meta_of(volume: VolumeFile) -> dict[str, Any]:
    """Meta data of a scan, by the names that MONAI's transforms know."""
    return {
        "affine": volume.affine.copy(),
        "original_affine": volume.affine,
        "spatial_shape": np.asarray(volume.voxels.shape),
        "original_channel_dim": float("nan"),
        "space": "RAS",
        "header_spacing": np.asarray(volume.header_spacing),
        TAKEN_FROM: volume.taken_from,
        WARNINGS: "\n".join(map(sentence, volume.warnings)),
    }


def _last_axis_fastest(voxels: NDArray[Any]) -> NDArray[Any]:
    """Copy to C order, as MONAI does, some rows of all slices at a time: a cache holds them, 2 to 4 times as fast."""
    if voxels.flags.c_contiguous and voxels.dtype.isnative:
        return voxels
    ordered = np.empty(voxels.shape, voxels.dtype.newbyteorder("="))
    for first in range(0, voxels.shape[1], ROWS):
        ordered[:, first : first + ROWS] = voxels[:, first : first + ROWS]
    return ordered


def load_volume(path: str | os.PathLike[str], as_stored: bool = False) -> MetaTensor:
    """A scan or label map [channel, x, y, z] as float32, or as stored; photographs are [channel, x, y]."""
    volume: MetaTensor = _loader(as_stored)(path)
    return volume


@cache
def _loader(as_stored: bool) -> LoadImage:
    """Made once: MONAI looks for decoders of DICOM each time."""
    dtype = None if as_stored else np.float32
    return LoadImage(reader=ScanReader(), image_only=True, ensure_channel_first=True, dtype=dtype)


def check_scan(scan: MetaTensor) -> MetaTensor:
    """Refuse a scan [1, x, y, z] that cannot be a CT in HU (VolumeError); log, keep warnings; RGB photographs pass."""
    where = str(scan.meta.get("filename_or_obj", "the scan"))
    if scan.dim() != 4:
        if is_photograph(where) and len(scan) != 3:
            raise VolumeError(Problem(Kind.NOT_HU, where, f"a picture of {len(scan)} channels, expected a CT volume"))
        return scan
    affine = np.asarray(scan.affine, dtype=np.float64)
    for channel in scan.as_tensor().detach().cpu().numpy():
        problems, found = check_scan_arrays(channel, affine, where, scan.meta.get("header_spacing"))
        if problems:
            raise VolumeError(problems[0])
        lines = [*str(scan.meta.get(WARNINGS, "")).splitlines(), *map(sentence, found)]
        scan.meta[WARNINGS] = "\n".join(dict.fromkeys(lines))
    for line in str(scan.meta.get(WARNINGS, "")).splitlines():
        logger.warning(line)
    logger.info("%s: its place is taken from the %s.", where, scan.meta.get(TAKEN_FROM, "meta data of the loader"))
    return scan


class CheckScand(MapTransform):
    """Dictionary form of :func:`check_scan`, for any loader: MONAI Deploy and MONAI Label have their own."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the scans under the keys."""
        for key in self.key_iterator(data):
            check_scan(data[key])
        return dict(data)
