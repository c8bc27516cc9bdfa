"""Reading a volume for the dataset check: NIfTI by nibabel, everything else that MONAI reads by ITK."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, cast

import nibabel as nib
import numpy as np
from monai.data.image_reader import ITKReader
from numpy.typing import NDArray

from scripts.dataset.datalist_file import NIFTI_SUFFIXES
from scripts.dicom.series_folder import stack_in


@dataclass(frozen=True)
class VolumeFile:
    """Voxels as stored (after slope and intercept) with their geometry.

    Attributes:
        voxels: axes (x, y, z) for a volume; whatever the file holds otherwise.
        affine: 4 x 4, voxel index to RAS position in mm.
        header_spacing: voxel size in mm as the header's own field gives it, which the affine may contradict.
        oriented: whether the header says how the axes lie in the body.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    header_spacing: tuple[float, ...]
    oriented: bool

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm by the affine, axes (x, y, z)."""
        return cast("NDArray[np.float64]", np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))


def read_volume_file(path: str) -> VolumeFile:
    """Read a file with all its voxels; raises whatever the reader raises when it is broken or truncated."""
    return _read_nifti(path) if path.lower().endswith(NIFTI_SUFFIXES) else _read_by_itk(path)


def _read_nifti(path: str) -> VolumeFile:
    image = cast("nib.nifti1.Nifti1Image", nib.loadsave.load(path))
    # Read a second time, since loading puts 1 mm for a spacing of 0 and drops the sign of a negative one.
    with nib.openers.ImageOpener(path) as stream:
        header_class: Any = type(image.header)
        header = header_class.from_fileobj(stream, check=False)
    return VolumeFile(
        voxels=np.asanyarray(image.dataobj),
        affine=np.asarray(image.affine, dtype=np.float64),
        header_spacing=tuple(float(size) for size in header["pixdim"][1:4]),
        oriented=int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0,
    )


def _read_by_itk(path: str) -> VolumeFile:
    if os.path.isdir(path):
        stack_in(path)  # raises where the series is no regular volume, which the reader does not
    reader = ITKReader()
    voxels, header = reader.get_data(reader.read(path))
    return VolumeFile(
        voxels=np.asarray(voxels),
        affine=np.asarray(header["affine"], dtype=np.float64),
        header_spacing=tuple(float(size) for size in header["spacing"][:3]),
        oriented=True,
    )


def voxel_hash(voxels: NDArray[Any]) -> str:
    """Hash shape and values of a volume, axes (x, y, z), whatever the data type and layout they are stored in."""
    digest = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    # Slice by slice: a float32 copy of a whole scan is twice its size, for each of the files read side by side.
    for index in range(voxels.shape[2]):
        digest.update(np.ascontiguousarray(voxels[:, :, index].T, dtype=np.float32).data)
    return digest.hexdigest()
