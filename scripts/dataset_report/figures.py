"""The figures of the report: geometry, Hounsfield units, which organs are where, and how large."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from scripts.dataset_report.measure import HU_EDGES, CaseMeasure
from scripts.drawing.display import plain_text
from scripts.drawing.html import png
from scripts.drawing.overlay import SOFT_TISSUE_WINDOW_HU

WIDTH, DPI = 9.0, 110
BLUE, RED, GREY = "#4477aa", "#cc3311", "#bbbbbb"
SPLIT_COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee")
JITTER_SEED, MAX_NAMED_CASES = 0, 60


def _new(height: float) -> Figure:
    return Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")


def _name_rows(axes: Axes, organs: Sequence[str]) -> None:
    axes.set_yticks(range(len(organs)), [plain_text(organ.replace("_", " ")) for organ in organs], fontsize=8)


def geometry_figure(cases: Sequence[CaseMeasure]) -> bytes:
    """Pixel size against slice distance, and field of view against length, a dot per case."""
    figure = _new(3.4)
    spacing, extent = figure.subplots(1, 2)
    for number, split in enumerate(dict.fromkeys(case.split for case in cases)):
        chosen = [case for case in cases if case.split == split]
        look = {"color": SPLIT_COLOURS[number % len(SPLIT_COLOURS)], "alpha": 0.6, "s": 18, "label": split}
        spacing.scatter([case.spacing[0] for case in chosen], [case.spacing[2] for case in chosen], **look)
        extent.scatter([case.extent[0] for case in chosen], [case.extent[2] for case in chosen], **look)
    spacing.set(xlabel="pixel size (mm)", ylabel="slice distance (mm)")
    extent.set(xlabel="width of the field of view (mm)", ylabel="length of the scan (mm)")
    for axes in (spacing, extent):
        axes.set(xlim=(0, None), ylim=(0, None))
    spacing.legend(frameon=False)
    return png(figure)


def histogram_figure(cases: Sequence[CaseMeasure], marked: Sequence[str] = ()) -> bytes:
    """Histogram of the Hounsfield units: a line per case, red for the marked names, the median of all in bold."""
    figure = _new(3.2)
    axes = figure.add_subplot()
    middles = (HU_EDGES[:-1] + HU_EDGES[1:]) / 2
    axes.axvspan(*SOFT_TISSUE_WINDOW_HU, color="#eeeedd", label="soft-tissue window")
    for case in sorted(cases, key=lambda case: case.case in marked):
        odd = case.case in marked
        axes.plot(middles, case.histogram, color=RED if odd else GREY, linewidth=0.9 if odd else 0.5, alpha=0.8)
    axes.plot(middles, np.median([case.histogram for case in cases], axis=0), color=BLUE, linewidth=2, label="median")
    axes.set(xlabel="Hounsfield units", ylabel="share of the voxels", xlim=(HU_EDGES[0], HU_EDGES[-1]), yscale="log")
    axes.legend(frameon=False)
    return png(figure)


def organ_matrix_figure(cases: Sequence[CaseMeasure], organs: Sequence[str]) -> bytes:
    """Organ by case: grey where it was not contoured, white where it was and is absent, else volume by its median."""
    volumes = np.array(
        [[case.organs[organ].ml if organ in case.organs else np.nan for case in cases] for organ in organs]
    )
    medians = np.array([np.median(row[row > 0]) if (row > 0).any() else 1.0 for row in volumes])
    relative = volumes / medians[:, None]
    figure = _new(1.3 + 0.24 * len(organs) + (0.9 if len(cases) <= MAX_NAMED_CASES else 0.0))
    axes = figure.add_subplot()
    axes.set_facecolor(GREY)
    axes.imshow(np.where(np.isnan(relative), np.nan, 1.0), cmap="gray", vmin=0, vmax=1, aspect="auto")
    shown = np.ma.masked_where(~(relative > 0), relative)
    picture = axes.imshow(shown, cmap="RdYlBu_r", norm=LogNorm(0.25, 4), aspect="auto", interpolation="nearest")
    _name_rows(axes, organs)
    if len(cases) <= MAX_NAMED_CASES:
        axes.set_xticks(range(len(cases)), [plain_text(case.case) for case in cases], rotation=90, fontsize=7)
    else:
        axes.set_xlabel(f"{len(cases)} cases in the order of the data list")
    bar = figure.colorbar(picture, ax=axes, ticks=[0.25, 0.5, 1, 2, 4], pad=0.01)
    bar.minorticks_off()
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    bar.set_label("volume / median", fontsize=8)
    return png(figure)


def volume_figure(cases: Sequence[CaseMeasure], organs: Sequence[str]) -> bytes:
    """Volumes of each organ, a dot per case; hollow where the scan cuts the organ."""
    figure = _new(1.0 + 0.3 * len(organs))
    axes = figure.add_subplot()
    jitter = np.random.default_rng(JITTER_SEED)
    for row, organ in enumerate(organs):
        for cut in (True, False):
            measures = [case.organs[organ] for case in cases if organ in case.organs]
            ml = [measure.ml for measure in measures if measure.ml > 0 and measure.cut == cut]
            height = row + jitter.uniform(-0.25, 0.25, len(ml))
            filling = "none" if cut else BLUE
            axes.scatter(ml, height, s=14, facecolors=filling, edgecolors=BLUE, linewidths=0.6, alpha=0.7)
    _name_rows(axes, organs)
    axes.set(xscale="log", xlabel="ml (hollow: reaches the first or the last slice)", ylim=(len(organs) - 0.5, -0.5))
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    return png(figure)
