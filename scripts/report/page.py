"""The report as one HTML file: its pictures lie within it, and it loads nothing from anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.drawing.display import (
    box_around_organs,
    display_spacing,
    plain_text,
    slices_with_most_organs,
    to_display_order,
)
from scripts.drawing.overlay import draw_panel, organ_colour

PAGE = Path(__file__).with_name("page.html")


def report_page(
    title: str,
    notice: str,
    facts: str,
    measures: Sequence[OrganFinding],
    figures: Mapping[str, Figure],
    footer: str,
    warnings: Sequence[str] = (),
) -> str:
    """Put the page together.

    Args:
        title: name of the scan.
        notice: sentence on the uses that the report is not made for.
        facts: one sentence on the scan.
        measures: measures of every organ.
        figures: pictures by their heading.
        footer: program and version that made the report.
        warnings: warnings about the scan.
    """
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        notice=escape(notice),
        facts=escape(facts),
        warnings="\n".join(f'<p class="notice">Warning: {escape(line)}</p>' for line in warnings),
        rows="\n".join(_row(measure) for measure in measures),
        pictures="\n".join(_picture(heading, figure) for heading, figure in figures.items()),
        footer=escape(footer),
    )


def _row(measure: OrganFinding) -> str:
    name = escape(measure.organ.replace("_", " "))
    chip = f'<span class="colour" style="background: {organ_colour(measure.class_index)}"></span>{name}'
    if measure.mean_hu is None:
        return (
            f'<tr class="absent"><td>{chip}</td><td class="number">-</td><td class="number">-</td>'
            "<td>not found</td></tr>"
        )
    remark = "reaches the edge of the scan, a part may be missing" if measure.cut_off else ""
    return (
        f'<tr><td>{chip}</td><td class="number">{measure.volume_ml:.1f}</td>'
        f'<td class="number">{measure.mean_hu:.0f}</td><td>{remark}</td></tr>'
    )


def _picture(heading: str, figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    data = base64.b64encode(content.getvalue()).decode("ascii")
    title = escape(heading)
    return f'<h2>{title}</h2>\n<img alt="{title}" src="data:image/png;base64,{data}">'


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
    image: NDArray[Any],
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    organs: Sequence[str],
    classes: Sequence[int] | None = None,
) -> list[OrganFinding]:
    """Measure organs.

    Args:
        image: CT [x, y, z] in HU.
        labels: label map [x, y, z]; class index of an organ = position in `organs` + 1.
        affine: 4 x 4 matrix from voxel indices to mm.
        organs: names.
        classes: class indices of the organs that are measured; None: all.

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
        if classes is None or index in classes
    ]
