"""A volume turned the way a radiologist looks at it, and the slices worth looking at.

Display order is [left, posterior, superior]. `picture_of` cuts it so that the patient's right is on the left side of
the picture, the front at the top of an axial slice, and the head at the top of the other two planes.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from monai.transforms.utils import generate_spatial_bounding_box
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

LabelMaps = Sequence[NDArray[Any]]
Plane = Literal["axial", "coronal", "sagittal"]
PLANE_AXIS: dict[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}


def plain_text(name: str) -> str:
    """A name as matplotlib can write it: no formula between dollar signs, no byte that is not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8").replace("$", r"\$")


def to_display_order(volume: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Flip and swap the axes of a volume [x, y, z] so that they are [left, posterior, superior].

    The affine is nibabel's, to mm (right, anterior, superior); an oblique one counts as the nearest straight one.
    """
    if volume.ndim != 3 or np.shape(affine) != (4, 4):
        shapes = f"got shapes {volume.shape} and {np.shape(affine)}"
        raise ValueError(f"Expected a volume [x, y, z] and a 4 x 4 affine, {shapes}; drop the channel axis.")
    turned: NDArray[Any] = apply_orientation(volume, _turn(affine))
    return turned


def display_spacing(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the voxel size in mm along [left, posterior, superior], the axes of `to_display_order`."""
    left, posterior, superior = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(_turn(affine)[:, 0])].tolist()
    return left, posterior, superior


def _turn(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis and direction of the display for each axis of the scan."""
    turn: NDArray[np.float64] = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    return turn


def picture_of(volume: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """Cut one slice out of a volume in display order, as a picture [row, column] with row 0 at the top.

    Columns run from right to left, in a sagittal picture from front to back; rows from head to feet, in an axial one
    from front to back. `index` counts along the axis that the plane cuts.
    """
    picture: NDArray[Any] = np.take(volume, index, axis=PLANE_AXIS[plane]).T
    return picture if plane == "axial" else picture[::-1]


def pixel_aspect(spacing: Sequence[float], plane: Plane) -> float:
    """Return the height of a picture's pixel over its width, for voxels of `spacing` [left, posterior, superior] mm."""
    left, posterior, superior = spacing
    return {"axial": posterior / left, "coronal": superior / left, "sagittal": superior / posterior}[plane]


def slices_with_most_organs(label_maps: LabelMaps, plane: Plane, count: int, class_count: int) -> list[int]:
    """Choose the slices that together show the most of the most organs of label maps in display order, in rising order.

    A slice shows an organ as well as its area there compares with the organ's largest area. Slices are added one by
    one, each the one that gains most, as long as one gains anything (our choice: counting organs alone picks
    neighbouring slices that look the same). Without organs they are the middles of equal stretches.

    Example: with areas 0 4 2 0 of one organ and 0 0 2 4 of another, two slices are 1 and 3.
    """
    axis = PLANE_AXIS[plane]
    others = tuple({0, 1, 2} - {axis})
    classes = range(1, class_count + 1)
    areas = np.array([(labels == index).sum(axis=others) for labels in label_maps for index in classes], dtype=float)
    areas = areas[areas.any(axis=1)]
    if not areas.size:
        stretches = np.array_split(np.arange(label_maps[0].shape[axis]), count)
        return [int(stretch[len(stretch) // 2]) for stretch in stretches if stretch.size]
    shown_by_slice = areas / areas.max(axis=1, keepdims=True)
    shown = np.zeros((len(areas), 1))
    chosen: set[int] = set()
    for _ in range(count):
        gains = np.maximum(shown_by_slice - shown, 0.0).sum(axis=0)
        best = int(np.argmax(gains))
        if gains[best] > 0:
            chosen.add(best)
            shown = np.maximum(shown, shown_by_slice[:, [best]])
    return sorted(chosen)


def box_around_organs(label_maps: LabelMaps, spacing: Sequence[float], margin_mm: float) -> tuple[slice, slice, slice]:
    """The box around all organs of label maps in display order, with a margin; the whole volume without organs."""
    occupied = np.any([labels > 0 for labels in label_maps], axis=0)
    if not occupied.any():
        occupied = np.ones_like(occupied)
    margins = [round(margin_mm / step) for step in spacing]
    first, end = generate_spatial_bounding_box(occupied[None], margin=margins, allow_smaller=True)
    left, posterior, superior = map(slice, first, end)
    return left, posterior, superior
