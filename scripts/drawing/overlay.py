"""One case as a picture: organs over the CT, in the planes and the orientation a radiologist expects."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from scripts.drawing import display
from scripts.files.atomic_write import replacing

SOFT_TISSUE_WINDOW_HU = (-175.0, 275.0)
PANEL_COLUMNS = 3
# Our choice: enough around the organs to know where one is, so that small organs in a wide scan stay visible.
MARGIN_MM = 40.0
FILL_OPACITY, REFERENCE_COLOUR = 0.3, "white"
# Bright enough for dark CT, far apart for neighbouring class indices; white is kept for the reference.
ORGAN_COLOURS = (
    *("#e6194b", "#3cb44b", "#ffe119", "#4f7dff", "#f58231", "#b84fd8", "#42d4f4", "#f032e6", "#bfef45"),
    *("#fabed4", "#2fa59b", "#dcbeff", "#c98a3c", "#fff8b0", "#ff8a80", "#aaffc3", "#b5b51f", "#ffd8b1"),
)
EDGE_LETTERS: dict[display.Plane, str] = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}
SLICES: dict[display.Plane, int] = {"axial": 4, "coronal": 1, "sagittal": 1}
COUNTED_FROM: dict[display.Plane, str] = {"axial": "below", "coronal": "the front", "sagittal": "the right"}


def organ_colour(class_index: int) -> str:
    """Return the colour of an organ; it depends on the class index alone, so it is the same in every picture."""
    return ORGAN_COLOURS[(class_index - 1) % len(ORGAN_COLOURS)]


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def overlay_figure(
    image: NDArray[Any],
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    organs: Sequence[str],
    reference: NDArray[Any] | None = None,
    title: str = "",
) -> Figure:
    """Draw up to four axial slices, a coronal and a sagittal one, with organs as coloured areas.

    The patient's right is on the left side of the picture. The slices are those that show the most organs, cut to the
    surroundings of the organs; their numbers count from 1 in the whole scan. The legend lists the organs in this case.

    The image is a CT [x, y, z] in HU; labels are [x, y, z], class index of an organ = position in `organs` + 1. Those
    of the reference become dashed white contours. The affine, 4 x 4, is nibabel's, from voxel indices to mm.
    """
    label_maps = [labels] if reference is None else [labels, reference]
    for label_map in label_maps:
        _check_labels(label_map, image.shape, len(organs))
    image = display.to_display_order(image, affine)
    label_maps = [display.to_display_order(label_map, affine) for label_map in label_maps]
    spacing = display.display_spacing(affine)
    box = display.box_around_organs(label_maps, spacing, MARGIN_MM)
    shown = [label_map[box] for label_map in label_maps]
    panels = [
        (plane, index)
        for plane, count in SLICES.items()
        # From head to feet, as one scrolls through an abdomen.
        for index in reversed(display.slices_with_most_organs(shown, plane, count, len(organs)))
    ]
    rows = -(-len(panels) // PANEL_COLUMNS)
    figure = Figure(figsize=(13.0, 1.0 + 4.0 * rows), dpi=120, facecolor="black", layout="constrained")
    grid = figure.subplots(rows, PANEL_COLUMNS, squeeze=False).flat
    for axes, (plane, index) in zip(grid, panels, strict=False):
        draw_panel(axes, image[box], shown, plane, index, spacing)
        axis = display.PLANE_AXIS[plane]
        number = f"{box[axis].start + index + 1} of {image.shape[axis]} from {COUNTED_FROM[plane]}"
        axes.set_title(f"{plane} {number}", color="white", fontsize=10)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.suptitle(display.plain_text(title), color="white", fontsize=14)
    if handles := legend_handles(label_maps, organs):
        figure.legend(handles=handles, loc="outside lower center", ncols=7, labelcolor="white", frameon=False)
    return figure


def draw_panel(
    axes: Axes,
    image: NDArray[Any],
    label_maps: Sequence[NDArray[Any]],
    plane: display.Plane,
    index: int,
    spacing: Sequence[float],
) -> None:
    """Draw one slice of volumes in display order, `index` along the axis that the plane cuts, voxels of `spacing` mm.

    The image is in HU. The first label map is coloured, a second one is the reference, drawn dashed.
    """
    low, high = SOFT_TISSUE_WINDOW_HU
    picture, aspect = display.picture_of(image, plane, index), display.pixel_aspect(spacing, plane)
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
    for number, labels in enumerate(display.picture_of(label_map, plane, index) for label_map in label_maps):
        for class_index in _classes_in(labels):
            # One empty pixel on every side closes the contour of an organ that reaches the edge of the picture.
            organ = np.pad(labels == class_index, 1).astype(np.float32)
            grid = np.arange(-1, organ.shape[1] - 1), np.arange(-1, organ.shape[0] - 1), organ
            if number > 0:
                axes.contour(*grid, levels=[0.5], colors=[REFERENCE_COLOUR], linewidths=0.9, linestyles="dashed")
                continue
            colour = organ_colour(class_index)
            axes.contourf(*grid, levels=[0.5, 1.5], colors=[colour], alpha=FILL_OPACITY)
            axes.contour(*grid, levels=[0.5], colors=[colour], linewidths=1.3)
    height, width = picture.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    for x, letter in zip((0.02, 0.98), EDGE_LETTERS[plane], strict=True):
        side = "left" if x < 0.5 else "right"
        text = axes.text(x, 0.5, letter, transform=axes.transAxes, color="white", ha=side, va="center", fontsize=11)
        # A dark rim keeps the letter legible on bone.
        text.set_path_effects([withStroke(linewidth=2.5, foreground="black")])


def _classes_in(labels: NDArray[Any]) -> list[int]:
    return [int(value) for value in np.unique(labels) if value > 0]


def legend_handles(label_maps: Sequence[NDArray[Any]], organs: Sequence[str]) -> list[Patch | Line2D]:
    """Entries of the legend for the organs in these label maps; with more than one map the dashed reference too."""
    present = sorted({index for label_map in label_maps for index in _classes_in(label_map)})
    handles: list[Patch | Line2D] = [
        Patch(color=organ_colour(index), label=display.plain_text(organs[index - 1].replace("_", " ")))
        for index in present
    ]
    if len(label_maps) > 1:
        handles.append(Line2D([], [], color=REFERENCE_COLOUR, linestyle="dashed", label="reference"))
    return handles


def _check_labels(labels: NDArray[Any], shape: tuple[int, ...], organ_count: int) -> None:
    if labels.shape != shape:
        raise ValueError(f"The label map has shape {labels.shape} and the image {shape}; put both on the scan's grid.")
    if labels.size and not 0 <= labels.min() <= labels.max() <= organ_count:
        found = f"class indices {labels.min()} to {labels.max()}, expected 0 to {organ_count}, one per organ"
        raise ValueError(f"The label map holds {found}; map the file's label values to class indices first.")
