"""The one scan that all candidates get: a phantom of any size and spacing, or a real scan made to fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from monai.transforms import Compose, LoadImage, Orientation, ResizeWithPadOrCrop, Spacing

from development.benchmarks.phantom_volume import Voxels, phantom_volume
from scripts.preprocessing.working_grid import HOUNSFIELD_AIR

PHANTOM_VOXEL = 2.0
"""mm; the phantom is built with voxels no finer than this in plane and then cut up: its content costs nobody time."""


def write_phantom_scan(path: Path, size: Sequence[int], spacing: Sequence[float]) -> None:
    """Write a phantom of this many voxels of this spacing (mm)."""
    coarsest = [max(spacing[0], PHANTOM_VOXEL), max(spacing[1], PHANTOM_VOXEL), spacing[2]]
    side = max(8, round(size[0] * spacing[0] / coarsest[0]))
    hu, _ = phantom_volume([side, side, size[2]], coarsest)
    for axis, (old, new) in enumerate(zip(hu.shape, size, strict=True)):
        hu = hu.take(np.arange(new) * old // new, axis=axis)
    write_scan(path, hu, spacing)


def write_fitted_scan(path: Path, scan: str, size: Sequence[int], spacing: Sequence[float]) -> None:
    """Write a real scan resampled to this spacing (mm), cropped or filled with air to this many voxels."""
    fit = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacing(list(spacing), mode="bilinear", padding_mode="border", dtype=np.float32),
            ResizeWithPadOrCrop(list(size), mode="constant", value=HOUNSFIELD_AIR),
        ]
    )
    write_scan(path, np.asarray(fit(scan)[0]), spacing)


def write_scan(path: Path, hu: Voxels, spacing: Sequence[float]) -> None:
    """Write HU [x, y, z], axes R, A, S, as int16 with axes L, P, S, as scanners do."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(hu[::-1, ::-1].round().astype(np.int16), affine), path)
