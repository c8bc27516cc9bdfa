"""What is measured of every organ of a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class OrganFinding:
    """Measures of one organ.

    Attributes:
        organ: its name.
        class_index: its value in the label map.
        volume_ml: volume in ml; 0 if it was not found.
        mean_hu: mean intensity in HU; None if it was not found.
        cut_off: whether it reaches the edge of the scan, so that a part of it may lie outside.
    """

    organ: str
    class_index: int
    volume_ml: float
    mean_hu: float | None
    cut_off: bool


def organ_measures(
    image: NDArray[Any], labels: NDArray[Any], affine: NDArray[np.float64], organs: Sequence[str]
) -> list[OrganFinding]:
    """Measure every organ.

    Args:
        image: CT [x, y, z] in HU.
        labels: label map [x, y, z]; class index of an organ = position in `organs` + 1.
        affine: 4 x 4 matrix from voxel indices to mm.
        organs: names.

    Raises:
        ValueError: the shapes differ, or a class index has no name.
    """
    highest = int(labels.max(initial=0))
    if image.shape != labels.shape or highest > len(organs):
        raise ValueError(
            f"image and label map have the shapes {image.shape} and {labels.shape}, and the highest class index is "
            f"{highest} of {len(organs)} organs: give a label map on the scan's grid and the organs of its config."
        )
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / MM3_PER_ML
    flat, count = labels.astype(np.intp).ravel(), len(organs) + 1
    voxels = np.bincount(flat, minlength=count)
    total_hu = np.bincount(flat, weights=image.astype(np.float64).ravel(), minlength=count)
    edges = [np.take(labels, [0, -1], axis=axis) for axis in range(3)]
    at_edge = {int(value) for edge in edges for value in np.unique(edge)}
    return [
        OrganFinding(
            organ=organ,
            class_index=index,
            volume_ml=float(voxels[index] * voxel_ml),
            mean_hu=float(total_hu[index] / voxels[index]) if voxels[index] else None,
            cut_off=index in at_edge,
        )
        for index, organ in enumerate(organs, start=1)
    ]
