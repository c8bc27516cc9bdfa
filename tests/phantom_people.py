"""People of the synthetic abdomen that several tests look at; each is made once per test run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from development.phantom.anatomy import PhantomCase, make_phantom_case
from development.phantom.tissues import CLASS_INDEX

PEOPLE = range(8)
MILLIMETRES = 4.0
TINY: dict[str, Any] = {"in_plane_spacing": (9.0, 9.0), "slice_spacing": (9.0, 9.0)}


@dataclass(frozen=True)
class Person:
    """One case turned to RAS+ voxel axes."""

    case: PhantomCase
    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def where(self, organ: str) -> NDArray[np.bool_]:
        return np.asarray(self.label == CLASS_INDEX[organ])

    def points(self, organ: str) -> NDArray[np.float64]:
        """World coordinates (voxels, 3) in mm."""
        return np.asarray(nibabel.affines.apply_affine(self.affine, np.argwhere(self.where(organ))))

    def centroid(self, organ: str) -> NDArray[np.float64]:
        return np.asarray(self.points(organ).mean(axis=0))

    def is_whole(self, organ: str) -> bool:
        slices = np.nonzero(self.where(organ).any(axis=(0, 1)))[0]
        return bool(slices[0] > 0 and slices[-1] < self.label.shape[2] - 1)

    def volume_ml(self, organ: str) -> float:
        return float(self.where(organ).sum() * abs(np.linalg.det(self.affine[:3, :3])) / 1000)


@cache
def person(number: int) -> Person:
    spacing = (MILLIMETRES, MILLIMETRES)
    case = make_phantom_case(0, number, in_plane_spacing=spacing, slice_spacing=spacing)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(case.image, case.affine))
    label = nibabel.as_closest_canonical(nibabel.Nifti1Image(case.label, case.affine))
    return Person(case, np.asarray(image.dataobj), np.asarray(label.dataobj), image.affine)


def tiny_case(number: int, partially_annotated: bool = False, seed: int = 0) -> PhantomCase:
    return make_phantom_case(seed, number, partially_annotated=partially_annotated, **TINY)


def world_centroid(case: PhantomCase, organ: str) -> NDArray[np.float64]:
    voxels = np.argwhere(case.label == CLASS_INDEX[organ])
    return np.asarray(nibabel.affines.apply_affine(case.affine, voxels).mean(axis=0))
