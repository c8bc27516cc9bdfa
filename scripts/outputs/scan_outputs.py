"""What inference writes for each scan, never half-written: label map, class scores, overlay picture, palette PNG."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged
from monai.utils.module import optional_import
from numpy.typing import NDArray

from scripts.dataset.datalist_file import NIFTI_SUFFIXES, case_name
from scripts.dataset.layouts.voc import voc_colours
from scripts.dataset.nifti_header import label_header
from scripts.drawing.overlay import overlay_figure, save_figure
from scripts.files.atomic_write import replacing
from scripts.files.result_files import result_path
from scripts.preprocessing.scan_reader import load_volume

pillow, _ = optional_import("PIL.Image")

RESULT = "result"  # key of what is noted of a scan beside its labels; MONAI Label hands it to its clients
SIGNS = "signs"  # key of what tells whether the scan is like those of training
COMPARED = "compared"  # key of whether these signs could be compared with those of the training scans
SCAN = "scan"  # key of the voxels of the scan on its own grid, if they have been read again


def write_nifti(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a NIfTI file with this affine as both sform and qform (mm), whole or not at all."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def write_labels(path: Path, voxels: NDArray[np.uint8], affine: NDArray[np.float64], scan: str) -> None:
    """Write a label map: with the header of its scan where that is a NIfTI file, so that viewers place both alike."""
    if not (scan.lower().endswith(NIFTI_SUFFIXES) and Path(scan).is_file()):
        return write_nifti(path, voxels, affine)
    header = label_header(scan, voxels.shape)
    image_class: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    with replacing(path) as temporary:
        nib.save(image_class(voxels, None, header), temporary)


def scan_name(data: Mapping[Hashable, Any]) -> str:
    """Name of the scan that an item came from."""
    return str(data.get("case") or case_name(str(data["image"].meta["filename_or_obj"])))


def voxels_of(data: Mapping[Hashable, Any]) -> NDArray[Any]:
    """Voxels [i, j, k] of the scan that an item came from, on its own grid."""
    known: NDArray[Any] | None = data.get(SCAN)
    return load_volume(data["image"].meta["filename_or_obj"])[0].numpy() if known is None else known


class ScanSaverd(MapTransform):
    """Base of what writes files for each scan; a subclass says their `kinds`, the first of which `_write` gets.

    Clients strip savers of what they take: MONAI Label by class SaveImaged, MONAI Deploy by "SaveImage" in the name.

    The keys are of label maps [1, i, j, k] on the scan's grid, or what the subclass says, `output_dir` is the folder of
    the files, and the organs stand in the order of their class indices, where the files name organs.
    """

    kinds: tuple[str, ...]
    _run: Mapping[str, Any] = {}

    def __init__(self, keys: KeysCollection, output_dir: str, organs: Sequence[str] = ()) -> None:
        super().__init__(keys)
        self.output_dir, self.organs = Path(output_dir), list(organs)

    def note_run(self, facts: Mapping[str, Any]) -> None:
        """Take what all results of the run depend on: plain values."""
        self._run = facts

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write what lies under the keys."""
        for key in self.key_iterator(data):
            self._write(data[key], data, result_path(self.output_dir, scan_name(data), self.kinds[0]))
        return dict(data)

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        raise NotImplementedError


class SaveImageLabelsd(ScanSaverd, SaveImaged):
    """Write the fused labels as `<case>_seg.nii.gz`: uint8, on the scan's own grid."""

    kinds = ("labels",)

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        scan = str(data["image"].meta.get("filename_or_obj", ""))
        write_labels(path, value[0].cpu().numpy().astype(np.uint8), value.affine.numpy(), scan)


class SaveImageScoresd(ScanSaverd, SaveImaged):
    """Write class scores [class, x, y, z] of the working grid as `<case>_scores.nii.gz`: float16 digits, class last."""

    kinds = ("scores",)

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        scores = torch.as_tensor(value).detach().half().float().cpu().numpy()
        write_nifti(path, np.moveaxis(scores, 0, -1), data["image"].affine.numpy())


class SaveOverlayd(ScanSaverd):
    """Write `<case>_overlay.png`: slices of the scan with the fused labels, and the reference if there is one."""

    kinds = ("overlay",)

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        scan, labels, affine = voxels_of(data), value[0].cpu().numpy(), value.affine.numpy()
        reference = None if data.get("label") is None else data["label"][0].numpy()
        save_figure(overlay_figure(scan, labels, affine, self.organs, reference, title=scan_name(data)), path)


class SavePaletteLabelsd(ScanSaverd, SaveImaged):
    """Write class indices [1, x, y, 1] of a photograph as `<case>.png` with VOC's palette, as VOC's server takes it."""

    kinds = ("palette_labels",)

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        # A picture has rows first: y, then x.
        rows = value[0, :, :, 0].cpu().numpy().astype(np.uint8).T
        picture = pillow.fromarray(np.ascontiguousarray(rows), mode="L")
        picture.putpalette([part for colour in voc_colours() for part in colour])
        with replacing(path) as temporary:
            picture.save(temporary, optimize=True)
