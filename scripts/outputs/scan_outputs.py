"""What inference writes for each scan: the label map, and if wanted class scores and an overlay picture."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from numpy.typing import NDArray

from scripts.dataset.datalist_file import NIFTI_SUFFIXES, case_name
from scripts.dataset.nifti_header import label_header
from scripts.drawing.overlay import save_overlay
from scripts.files.atomic_write import replacing
from scripts.files.result_files import result_path
from scripts.preprocessing.scan_reader import load_volume


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
    image = image_class(voxels, None, header)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def scan_name(data: Mapping[Hashable, Any]) -> str:
    """Name of the scan that an item came from."""
    return str(data.get("case") or case_name(str(data["image"].meta["filename_or_obj"])))


class ScanSaverd(SaveImaged):
    """Base of what writes a file of its own for each scan.

    Clients that take the result themselves strip the savers: MONAI Label by class, MONAI Deploy by "SaveImage" in the
    name.

    Args:
        keys: keys of the data that are written.
        output_dir: folder of the files.
    """

    def __init__(self, keys: KeysCollection, output_dir: str) -> None:
        super().__init__(keys, output_dir=output_dir, print_log=False)
        self.output_dir = Path(output_dir)


class SaveImageLabelsd(ScanSaverd):
    """Write the fused labels as `<case>_seg.nii.gz` on the scan's own grid, never half-written.

    Args:
        keys: label map [1, i, j, k] uint8 with the scan's affine.
        output_dir: folder of the label maps.
    """

    kinds = ("labels",)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the label maps under the keys."""
        for key in self.key_iterator(data):
            labels: MetaTensor = data[key]
            voxels = labels.as_tensor()[0].to(torch.uint8).cpu().numpy()
            scan = str(data["image"].meta.get("filename_or_obj", ""))
            path = result_path(self.output_dir, scan_name(data), "labels")
            write_labels(path, voxels, labels.affine.numpy(), scan)
        return dict(data)


class SaveImageScoresd(ScanSaverd):
    """Write the class scores as `<case>_scores.nii.gz`, 4D float16-rounded float32, on the working grid.

    Args:
        keys: class scores [class, x, y, z].
        output_dir: folder of the score maps.
    """

    kinds = ("scores",)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the class scores under the keys."""
        for key in self.key_iterator(data):
            scores = torch.as_tensor(data[key]).detach().half().float().cpu().numpy()
            path = result_path(self.output_dir, scan_name(data), "scores")
            write_nifti(path, np.moveaxis(scores, 0, -1), data["image"].affine.numpy())
        return dict(data)


class SaveOverlayd(MapTransform):
    """Write `<case>_overlay.png`: slices of the scan with the fused labels drawn over them.

    Args:
        keys: label map [1, i, j, k] on the scan's grid.
        output_dir: folder of the pictures.
        organs: organ names in the order of their class indices.
    """

    kinds = ("overlay",)

    def __init__(self, keys: KeysCollection, output_dir: str, organs: Sequence[str]) -> None:
        super().__init__(keys)
        self.output_dir, self.organs = Path(output_dir), list(organs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw the label maps under the keys."""
        for key in self.key_iterator(data):
            labels: MetaTensor = data[key]
            scan = load_volume(data["image"].meta["filename_or_obj"])
            label = data.get("label")
            reference = None if label is None else label[0].numpy()
            save_overlay(
                scan[0].numpy(),
                labels[0].cpu().numpy(),
                labels.affine.numpy(),
                self.organs,
                result_path(self.output_dir, scan_name(data), "overlay"),
                reference=reference,
                title=scan_name(data),
            )
        return dict(data)
