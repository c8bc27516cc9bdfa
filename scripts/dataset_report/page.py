"""The report as one HTML file that needs nothing beside it: no server, no network, no script."""

import os
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from scripts.dataset_report.figures import geometry_figure, histogram_figure, organ_matrix_figure, volume_figure
from scripts.dataset_report.measure import CaseMeasure
from scripts.dataset_report.outliers import Outlier, find_outliers
from scripts.drawing.html import embedded, table, write_page


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
