"""BTCV 2015 in the challenge's own layout and numbers, made of synthetic abdomens of very large voxels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from development.phantom.anatomy import PhantomCase, make_phantom_case
from scripts.prepare.btcv import TEST_NUMBERS, TRAINING_NUMBERS

PEOPLE = 5
VOXEL_MM = 11.0


@cache
def _person(number: int) -> PhantomCase:
    return make_phantom_case(0, number, (VOXEL_MM, VOXEL_MM), (VOXEL_MM, VOXEL_MM))


def save(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a volume with the affine in both places of the header."""
    image: Any = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_btcv(root: Path) -> Path:
    """Write the 30 training and 20 test scans to ``root/RawData`` and return that folder.

    A few people are enough: the noise of every scan is its own, so that no two scans have equal voxels.
    """
    raw = root / "RawData"
    for number in (*TRAINING_NUMBERS, *TEST_NUMBERS):
        person = _person(number % PEOPLE)
        noise = np.random.default_rng(number).integers(-15, 16, person.image.shape)
        place = "Training" if number in TRAINING_NUMBERS else "Testing"
        save(raw / place / "img" / f"img{number:04d}.nii.gz", (person.image + noise).astype(np.int16), person.affine)
        if number in TRAINING_NUMBERS:
            save(raw / place / "label" / f"label{number:04d}.nii.gz", person.label, person.affine)
    return raw
