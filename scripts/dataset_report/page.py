"""The report as one HTML file that needs nothing beside it: no server, no network, no script."""

import os
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from scripts.dataset_report.measure import HU_EDGES, CaseMeasure
from scripts.dataset_report.outliers import Outlier, find_outliers
from scripts.drawing.display import plain_text
from scripts.drawing.html import embedded, png, table, write_page
from scripts.drawing.overlay import SOFT_TISSUE_WINDOW_HU

WIDTH, DPI = 9.0, 110
BLUE, RED, GREY = "#4477aa", "#cc3311", "#bbbbbb"
SPLIT_COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee")
JITTER_SEED, MAX_NAMED_CASES = 0, 60


def write_report(
    path: str | os.PathLike[str], title: str, cases: Sequence[CaseMeasure], organs: Sequence[str], notes: Sequence[str]
) -> list[Outlier]:
    """Write the report of a data set, whole or not at all; return what it says is worth a look.

    The notes are the problems that the check of the data set found, one line each.
    """
    outliers = find_outliers(cases)
    blocks = [_case(case, [odd.what for odd in outliers if odd.case == case.case]) for case in cases]
    parts = [
        f"<h2>Cases</h2>{_summary(cases)}",
        f"<h2>Worth a look ({len(outliers)})</h2>{_worth_a_look(outliers, notes)}",
        _figures([case for case in cases if not case.failure], organs, outliers),
        "<h2>Scans</h2><p>Soft-tissue window; patient right is on the left. Axial and coronal slice with the most "
        f'organs.</p><div class="cases">{"".join(blocks)}</div>',
    ]
    write_page(path, title, parts)
    return outliers


def _summary(cases: Sequence[CaseMeasure]) -> str:
    rows = []
    for split in dict.fromkeys(case.split for case in cases):
        chosen = [case for case in cases if case.split == split]
        phases = Counter(case.phase or "phase unknown" for case in chosen)
        readable = [case for case in chosen if case.spacing]
        counts = [len(chosen), len({case.patient or case.case for case in chosen}), sum(c.labelled for c in chosen)]
        sizes = [(case.spacing[0], case.spacing[2], float(case.shape[2])) for case in readable]
        ranges = [_range([size[n] for size in sizes]) for n in range(3)]
        contrast = ", ".join(f"{phase} {count}" for phase, count in phases.items())
        rows.append([escape(split), *counts, escape(contrast), *ranges])
    header = ["split", "scans", "patients", "labelled", "contrast phases", "pixels (mm)", "slices (mm)", "slices"]
    return table(header, rows)


def _worth_a_look(outliers: Sequence[Outlier], notes: Sequence[str]) -> str:
    said = escape("\n".join(notes))
    checked = f"<p>What the check of the files says:</p><pre>{said}</pre>" if notes else ""
    items = "".join(f'<li><a href="#{escape(o.case)}">{escape(o.case)}</a>: {escape(o.what)}</li>' for o in outliers)
    found = f"<p>Each can be right; these are unlike the others.</p><ul>{items}</ul>" if items else "<p>Nothing.</p>"
    return checked + found


def _figures(readable: Sequence[CaseMeasure], organs: Sequence[str], outliers: Sequence[Outlier]) -> str:
    parts, labelled = [], [case for case in readable if case.organs]
    if readable:
        odd = [outlier.case for outlier in outliers if " HU" in outlier.what]
        parts += [
            "<h2>Geometry</h2>" + embedded(geometry_figure(readable), "pixel size, slice distance, extent"),
            "<h2>Hounsfield units</h2>" + embedded(histogram_figure(readable, odd), "histogram of the HU"),
        ]
    if labelled:
        parts += [
            "<h2>Organs</h2><p>Grey: not contoured in that case. White: contoured, and absent.</p>",
            embedded(organ_matrix_figure(labelled, organs), "organs by case"),
            embedded(volume_figure(labelled, organs), "volumes of the organs"),
            _organ_table(labelled, organs),
        ]
    return "\n".join(parts)


def _organ_table(cases: Sequence[CaseMeasure], organs: Sequence[str]) -> str:
    rows = []
    for organ in organs:
        measures = [case.organs[organ] for case in cases if organ in case.organs]
        ml = [measure.ml for measure in measures if measure.ml > 0]
        cut = sum(measure.cut for measure in measures)
        median = f"{np.median(ml):.3g}" if ml else "-"
        rows.append([escape(organ.replace("_", " ")), len(measures), len(ml), median, _range(ml), cut])
    return table(["organ", "contoured in", "seen in", "median (ml)", "range (ml)", "cut by the scan's end"], rows)


def _case(case: CaseMeasure, found: Sequence[str]) -> str:
    facts = [case.split, case.phase or "", "" if case.labelled else "unlabelled"]
    if case.shape:
        spacing = " x ".join(f"{mm:.2f}" for mm in case.spacing)
        facts.append(f"{' x '.join(map(str, case.shape))} voxels, {spacing} mm")
    failure = f'<p class="bad">{escape(case.failure)}</p>'
    picture = embedded(case.picture, case.case, "jpeg") if case.picture else failure
    items = "".join(f"<li>{escape(what)}</li>" for what in found)
    return (
        f'<div class="case{" odd" if found else ""}" id="{escape(case.case)}"><b>{escape(case.case)}</b>{picture}'
        f"{escape(', '.join(fact for fact in facts if fact))}{f'<ul>{items}</ul>' if items else ''}</div>"
    )


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


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
    rows = [[case.organs[organ].ml if organ in case.organs else np.nan for case in cases] for organ in organs]
    volumes = np.array(rows)
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
