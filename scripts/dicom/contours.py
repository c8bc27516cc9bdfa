"""Regions of a slice as closed contours, and contours as pixels; both in pixel indices, centres at whole numbers.

A contour runs halfway between the pixels inside and those outside, so that a program which asks for every pixel whether
its centre lies inside finds the same pixels again. A hole is joined to the contour around it by a channel of no width
("keyhole", DICOM PS3.3 C.8.8.6.3): programs differ in what they make of a contour within another.
"""

from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Corners of a closed contour, [corner, 2]: column and row; the first one is not repeated at the end."""


def contours_of(region: NDArray[np.bool_]) -> list[Points]:
    """Outline every separate piece of a region [column, row], holes joined by keyholes.

    Example: one pixel at column 3 and row 5 -> the corners (2.5, 5), (3, 4.5), (3.5, 5), (3, 5.5).
    """
    columns, rows = np.nonzero(region)
    if not len(columns):
        return []
    first = np.array([columns.min(), rows.min()])
    box = region[first[0] : columns.max() + 1, first[1] : rows.max() + 1]
    # One empty pixel on every side closes the contour of an organ that reaches the edge of the slice.
    outlined = contour_generator(z=np.pad(box, 1).T.astype(float), fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    pieces = zip(*outlined, strict=True)
    return [_one_contour(np.split(points, offsets[1:-1])) + first - 1.0 for points, offsets in pieces]


def _one_contour(rings: list[Points]) -> Points:
    """Join the holes of a piece to its outer contour; rings repeat their first point."""
    outer, *holes = (_without_straight_points(ring[:-1]) for ring in rings)
    for hole in sorted(holes, key=lambda ring: -float(ring[:, 0].max())):
        outer = _joined(outer, hole)
    return outer


def _without_straight_points(ring: Points) -> Points:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    corners: Points = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners


def _joined(outer: Points, hole: Points) -> Points:
    """Go from the outer contour to a hole, round it and back, along a line between two rows of pixels.

    No pixel centre lies on that line, so a pixel is inside or outside whatever a program makes of points on a contour.
    """
    between_rows = np.flatnonzero(hole[:, 1] % 1 == 0.5)
    start = int(between_rows[np.argmax(hole[between_rows, 0])])
    column, row = hole[start]
    edges, _, columns = _crossings(outer, np.array([row]))
    right = np.flatnonzero(columns > column)
    nearest = right[np.argmin(columns[right])]
    door, edge = np.array([[columns[nearest], row]]), int(edges[nearest])
    around = np.roll(hole, -start, axis=0)
    return np.concatenate([outer[: edge + 1], door, around, around[:1], door, outer[edge + 1 :]])


def _crossings(contour: Points, rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Where a contour crosses rows: number of its edge, place in `rows`, and column."""
    following = np.roll(contour, -1, axis=0)
    low, high = np.minimum(contour[:, 1], following[:, 1]), np.maximum(contour[:, 1], following[:, 1])
    edge, place = np.nonzero((low[:, None] <= rows) & (rows < high[:, None]))
    start, step = contour[edge], following[edge] - contour[edge]
    return edge, place, start[:, 0] + (rows[place] - start[:, 1]) * step[:, 0] / step[:, 1]


def filled(contour: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels [column, row] of a slice of this shape whose centres lie inside a contour.

    The contour may cross itself: what it goes round an even number of times is outside.
    """
    columns, rows = shape
    _, row, crossing = _crossings(contour, np.arange(rows))
    turns = np.zeros((columns + 1, rows), dtype=np.int32)
    np.add.at(turns, (np.clip(np.ceil(crossing), 0, columns).astype(int), row), 1)
    inside: NDArray[np.bool_] = np.cumsum(turns, axis=0)[:columns] % 2 == 1
    return inside
