"""A picture of every organ found, where it is largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.evaluation.display import (
    box_around_organs,
    display_spacing,
    plain_text,
    slices_with_most_organs,
    to_display_order,
)
from scripts.evaluation.overlay import draw_panel, organ_colour

COLUMNS = 4
MARGIN_MM = 40.0


def montage_figure(
    image: NDArray[Any], labels: NDArray[Any], affine: NDArray[np.float64], organs: Sequence[str]
) -> Figure | None:
    """Draw the axial slice in which each organ is largest, cut to its surroundings; None if no organ was found.

    Args:
        image: CT [x, y, z] in HU.
        labels: label map [x, y, z]; class index of an organ = position in `organs` + 1.
        affine: 4 x 4 matrix from voxel indices to mm (nibabel's right, anterior, superior).
        organs: names for the titles.
    """
    image, labels = to_display_order(image, affine), to_display_order(labels, affine)
    spacing = display_spacing(affine)
    found = [index for index in range(1, len(organs) + 1) if (labels == index).any()]
    if not found:
        return None
    rows = -(-len(found) // COLUMNS)
    figure = Figure(figsize=(13.0, 3.4 * rows), dpi=110, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes, index in zip(panels, found, strict=False):
        organ = (labels == index).astype(np.uint8)
        box = box_around_organs([organ], spacing, MARGIN_MM)
        (largest,) = slices_with_most_organs([organ[box]], "axial", 1, class_count=1)
        draw_panel(axes, image[box], [labels[box]], "axial", largest, spacing)
        axes.set_title(plain_text(organs[index - 1].replace("_", " ")), color=organ_colour(index), fontsize=12)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
