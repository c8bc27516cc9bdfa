"""DICOM series as a scanner would export them, written with pydicom: whole, damaged, tilted, compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from development.phantom.series import LPS, STORED_AIR, series_voxels, slice_dataset

__all__ = ["AXIAL", "LPS", "STORED_AIR", "phantom_scan", "slice_dataset", "tilted", "voxels_of", "write_ct_series"]

AXIAL = np.array([[-2.0, 0.0, 0.0, 30.5], [0.0, -3.0, 0.0, 40.25], [0.0, 0.0, 5.0, -60.0], [0.0, 0.0, 0.0, 1.0]])
"""Columns from right to left, rows from front to back, slices from feet to head; 2 x 3 x 5 mm."""


def voxels_of(shape: tuple[int, int, int] = (16, 12, 6), seed: int = 0) -> NDArray[np.int16]:
    """HU [column, row, slice], different in every voxel."""
    return np.random.default_rng(seed).permutation(np.arange(np.prod(shape)) % 2400 - 1000).reshape(shape).astype("i2")


def phantom_scan(phantom_dir: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """A synthetic abdomen as a series holds it: HU [column, row, slice] and affine."""
    return series_voxels(sorted((phantom_dir / "images").iterdir())[0])


def tilted(affine: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Slices turned about the axis from right to left, stacked along the table all the same."""
    angle = np.radians(degrees)
    turned = affine.copy()
    turned[:3, 1] = [0.0, affine[1, 1] * np.cos(angle), affine[1, 1] * np.sin(angle)]
    return turned


def write_ct_series(
    folder: Path,
    voxels: NDArray[np.int16],
    affine: NDArray[np.float64] = AXIAL,
    series: str = "1.2.3.4",
    syntax: UID = ExplicitVRLittleEndian,
    leave_out: tuple[int, ...] = (),
    **tags: Any,
) -> Path:
    """Write one file per slice [:, :, k], named without regard to their order; `tags` replace those of every slice."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(7).permutation(voxels.shape[2])
    for k in range(voxels.shape[2]):
        if k in leave_out:
            continue
        one = slice_dataset(voxels[:, :, k], affine, k, series)
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for name, value in tags.items():
            setattr(one, name, value)
        if syntax.is_encapsulated:
            one.compress(syntax, generate_instance_uid=False)
        elif not syntax.is_little_endian:
            one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
        one.file_meta.TransferSyntaxUID = syntax
        one.save_as(folder / f"IM{names[k]:04d}_{series}", enforce_file_format=True)
    return folder
