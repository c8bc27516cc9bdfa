"""The figures of the report: geometry, Hounsfield units, which organs are where, and how large."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy import ndimage

from scripts.dataset_report.measure import HU_EDGES, CaseMeasure
from scripts.drawing.display import Plane, picture_of, pixel_aspect, slices_with_most_organs
from scripts.drawing.overlay import SOFT_TISSUE_WINDOW_HU, organ_colour

DPI = 110
BLUE, RED, GREY = "#4477aa", "#cc3311", "#bbbbbb"
SPLIT_COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee")
JITTER_SEED = 0
MAX_NAMED_CASES = 60


def _new(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def geometry_figure(cases: Sequence[CaseMeasure]) -> bytes:
    """Pixel size against slice distance, and field of view against length, a dot per case."""
    figure = _new(9.0, 3.4)
    spacing, extent = figure.subplots(1, 2)
    for number, split in enumerate(dict.fromkeys(case.split for case in cases)):
        chosen = [case for case in cases if case.split == split]
        look = {"color": SPLIT_COLOURS[number % len(SPLIT_COLOURS)], "alpha": 0.6, "s": 18, "label": split}
        spacing.scatter([case.spacing[0] for case in chosen], [case.spacing[2] for case in chosen], **look)
        extent.scatter([case.extent[0] for case in chosen], [case.extent[2] for case in chosen], **look)
    spacing.set(xlabel="pixel size (mm)", ylabel="slice distance (mm)", xlim=(0, None), ylim=(0, None))
    extent.set(
        xlabel="width of the field of view (mm)", ylabel="length of the scan (mm)", xlim=(0, None), ylim=(0, None)
    )
    spacing.legend(frameon=False)
    return _png(figure)


def histogram_figure(cases: Sequence[CaseMeasure], marked: Sequence[str] = ()) -> bytes:
    """Histogram of the Hounsfield units: a line per case, the median of all in bold.

    Args:
        cases: those that could be read.
        marked: names of the cases that are drawn in red.
    """
    figure = _new(9.0, 3.2)
    axes = figure.add_subplot()
    middles = (HU_EDGES[:-1] + HU_EDGES[1:]) / 2
    axes.axvspan(*SOFT_TISSUE_WINDOW_HU, color="#eeeedd", label="soft-tissue window")
    for case in sorted(cases, key=lambda case: case.case in marked):
        odd = case.case in marked
        axes.plot(middles, case.histogram, color=RED if odd else GREY, linewidth=0.9 if odd else 0.5, alpha=0.8)
    axes.plot(middles, np.median([case.histogram for case in cases], axis=0), color=BLUE, linewidth=2, label="median")
    axes.set(xlabel="Hounsfield units", ylabel="share of the voxels", xlim=(HU_EDGES[0], HU_EDGES[-1]), yscale="log")
    axes.legend(frameon=False)
    return _png(figure)


def organ_matrix_figure(cases: Sequence[CaseMeasure], organs: Sequence[str]) -> bytes:
    """Organ by case: grey where it was not contoured, white where it was and is absent, else volume by its median."""
    volumes = np.array(
        [[case.organs[organ].ml if organ in case.organs else np.nan for case in cases] for organ in organs]
    )
    medians = np.array([np.median(row[row > 0]) if (row > 0).any() else 1.0 for row in volumes])
    relative = volumes / medians[:, None]
    figure = _new(9.0, 1.3 + 0.24 * len(organs) + (0.9 if len(cases) <= MAX_NAMED_CASES else 0.0))
    axes = figure.add_subplot()
    axes.set_facecolor(GREY)
    axes.imshow(np.where(np.isnan(relative), np.nan, 1.0), cmap="gray", vmin=0, vmax=1, aspect="auto")
    shown = np.ma.masked_where(~(relative > 0), relative)
    picture = axes.imshow(shown, cmap="RdYlBu_r", norm=LogNorm(0.25, 4), aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(organs)), [organ.replace("_", " ") for organ in organs], fontsize=8)
    if len(cases) <= MAX_NAMED_CASES:
        axes.set_xticks(range(len(cases)), [case.case for case in cases], rotation=90, fontsize=7)
    else:
        axes.set_xlabel(f"{len(cases)} cases in the order of the data list")
    bar = figure.colorbar(picture, ax=axes, ticks=[0.25, 0.5, 1, 2, 4], pad=0.01)
    bar.minorticks_off()
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    bar.set_label("volume / median", fontsize=8)
    return _png(figure)


def volume_figure(cases: Sequence[CaseMeasure], organs: Sequence[str]) -> bytes:
    """Volumes of each organ, a dot per case; hollow where the scan cuts the organ."""
    figure = _new(9.0, 1.0 + 0.3 * len(organs))
    axes = figure.add_subplot()
    jitter = np.random.default_rng(JITTER_SEED)
    for row, organ in enumerate(organs):
        for cut in (True, False):
            measures = [case.organs[organ] for case in cases if organ in case.organs]
            ml = [measure.ml for measure in measures if measure.ml > 0 and measure.cut == cut]
            height = row + jitter.uniform(-0.25, 0.25, len(ml))
            axes.scatter(
                ml, height, s=14, facecolors="none" if cut else BLUE, edgecolors=BLUE, linewidths=0.6, alpha=0.7
            )
    axes.set_yticks(range(len(organs)), [organ.replace("_", " ") for organ in organs], fontsize=8)
    axes.set(xscale="log", xlabel="ml (hollow: reaches the first or the last slice)", ylim=(len(organs) - 0.5, -0.5))
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    return _png(figure)


HEIGHT, MAX_WIDTH, GAP = 150, 220, 4
OPACITY = 0.4
BODY_HU = -300
JPEG_QUALITY = 80
PLANES: tuple[Plane, ...] = ("axial", "coronal")


def thumbnail(voxels: NDArray[Any], labels: NDArray[np.uint8], spacing: Sequence[float], class_count: int) -> bytes:
    """Draw a case as a JPEG.

    Args:
        voxels: CT [left, posterior, superior] in HU.
        labels: class indices on the same grid; 0 everywhere if unlabelled.
        spacing: mm along the axes.
        class_count: highest class index.
    """
    panels = []
    for plane in PLANES:
        index = slices_with_most_organs([labels], plane, 1, class_count)[0]
        panels.append(
            _panel(picture_of(voxels, plane, index), picture_of(labels, plane, index), pixel_aspect(spacing, plane))
        )
    gap = np.zeros((HEIGHT, GAP, 3), np.uint8)
    stream = io.BytesIO()
    imsave(
        stream,
        np.concatenate([panels[0], gap, panels[1]], axis=1),
        format="jpg",
        pil_kwargs={"quality": JPEG_QUALITY},
    )
    return stream.getvalue()


def _panel(picture: NDArray[Any], labels: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """One slice in colour [HEIGHT, width, 3], cut to the body, in the proportions of the patient."""
    box = _body(picture)
    picture, labels = picture[box].astype(np.float32), labels[box]
    rows, columns = picture.shape
    scale = min(HEIGHT / (rows * aspect), MAX_WIDTH / columns)
    height, width = max(1, round(rows * aspect * scale)), max(1, round(columns * scale))
    zoom = (height / rows, width / columns)
    low, high = SOFT_TISSUE_WINDOW_HU
    grey = np.clip((ndimage.zoom(picture, zoom, order=1) - low) / (high - low), 0, 1)
    organs = ndimage.zoom(labels, zoom, order=0)
    colours = np.array([(0.0, 0.0, 0.0), *(to_rgb(organ_colour(index)) for index in range(1, int(labels.max()) + 1))])
    blended = np.repeat(grey[..., None], 3, axis=2)
    shown = organs > 0
    blended[shown] = (1 - OPACITY) * blended[shown] + OPACITY * colours[organs[shown]]
    above = (HEIGHT - height) // 2
    padded = np.pad(blended, ((above, HEIGHT - height - above), (0, 0), (0, 0)))
    return np.asarray(np.round(255 * padded), np.uint8)


def _body(picture: NDArray[Any]) -> tuple[slice, slice]:
    """The part of a slice that is not air; all of it if everything is."""
    inside = picture > BODY_HU
    if not inside.any():
        return slice(None), slice(None)
    rows, columns = (np.nonzero(inside.any(axis=axis))[0] for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
