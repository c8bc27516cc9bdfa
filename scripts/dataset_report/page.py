"""The report as one HTML file that needs nothing beside it: no server, no network, no script."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from scripts.dataset_report.figures import geometry_figure, histogram_figure, organ_matrix_figure, volume_figure
from scripts.dataset_report.measure import CaseMeasure
from scripts.dataset_report.outliers import Outlier, find_outliers
from scripts.files.atomic_write import replacing

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1060px; padding: 0 1em; color: #222; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { padding: .2em .7em; text-align: right; border-bottom: 1px solid #eee; }
td:first-child, th:first-child { text-align: left; } img { max-width: 100%; }
.cases { display: flex; flex-wrap: wrap; gap: 12px; } .case { background: #f5f5f5; padding: 6px; font-size: 12px; }
.case img { display: block; height: 150px; } .odd { outline: 2px solid #cc3311; } .odd li, .bad { color: #a3260b; }
ul { margin: .3em 0; padding-left: 1.3em; } pre { background: #f8f3ee; padding: .8em; white-space: pre-wrap; }
"""


def write_report(
    path: str | os.PathLike[str], title: str, cases: Sequence[CaseMeasure], organs: Sequence[str], notes: Sequence[str]
) -> list[Outlier]:
    """Write the report of a data set, whole or not at all.

    Args:
        path: the HTML file.
        title: name of the data set.
        cases: every case, measured.
        organs: every organ of the data set, in its order.
        notes: problems that the check of the data set found, one line each.

    Returns:
        What the report says is worth a look.
    """
    outliers = find_outliers(cases)
    readable = [case for case in cases if not case.failure]
    labelled = [case for case in readable if case.organs]
    parts = [_summary(cases), _worth_a_look(outliers, notes)]
    if readable:
        odd = [outlier.case for outlier in outliers if " HU" in outlier.what]
        parts += [
            "<h2>Geometry</h2>" + _image(geometry_figure(readable), "png", "pixel size, slice distance, extent"),
            "<h2>Hounsfield units</h2>" + _image(histogram_figure(readable, odd), "png", "histogram of the HU"),
        ]
    if labelled:
        parts += [
            "<h2>Organs</h2><p>Grey: not contoured in that case. White: contoured, and absent.</p>",
            _image(organ_matrix_figure(labelled, organs), "png", "organs by case"),
            _image(volume_figure(labelled, organs), "png", "volumes of the organs"),
            _organ_table(labelled, organs),
        ]
    parts.append(_cases(cases, outliers))
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return outliers


def _summary(cases: Sequence[CaseMeasure]) -> str:
    rows = []
    for split in dict.fromkeys(case.split for case in cases):
        chosen = [case for case in cases if case.split == split]
        phases = {
            phase: sum(case.phase == phase for case in chosen) for phase in dict.fromkeys(c.phase for c in chosen)
        }
        readable = [case for case in chosen if case.spacing]
        rows.append(
            [
                split,
                len(chosen),
                len({case.patient or case.case for case in chosen}),
                sum(case.labelled for case in chosen),
                ", ".join(f"{phase or 'phase unknown'} {count}" for phase, count in phases.items()),
                _range([case.spacing[0] for case in readable]),
                _range([case.spacing[2] for case in readable]),
                _range([float(case.shape[2]) for case in readable]),
            ]
        )
    header = ["split", "scans", "patients", "labelled", "contrast phases", "pixels (mm)", "slices (mm)", "slices"]
    return "<h2>Cases</h2>" + _table(header, rows)


def _worth_a_look(outliers: Sequence[Outlier], notes: Sequence[str]) -> str:
    checked = f"<p>What the check of the files says:</p><pre>{escape(chr(10).join(notes))}</pre>" if notes else ""
    items = "".join(f'<li><a href="#{escape(o.case)}">{escape(o.case)}</a>: {escape(o.what)}</li>' for o in outliers)
    listed = f"<p>Each can be right; these are unlike the others.</p><ul>{items}</ul>" if items else "<p>Nothing.</p>"
    return f"<h2>Worth a look ({len(outliers)})</h2>{checked}{listed}"


def _organ_table(cases: Sequence[CaseMeasure], organs: Sequence[str]) -> str:
    rows = []
    for organ in organs:
        measures = [case.organs[organ] for case in cases if organ in case.organs]
        ml = [measure.ml for measure in measures if measure.ml > 0]
        cut = sum(measure.cut for measure in measures)
        median = f"{np.median(ml):.3g}" if ml else "-"
        rows.append([organ.replace("_", " "), len(measures), len(ml), median, _range(ml), cut])
    return _table(["organ", "contoured in", "seen in", "median (ml)", "range (ml)", "cut by the scan's end"], rows)


def _cases(cases: Sequence[CaseMeasure], outliers: Sequence[Outlier]) -> str:
    odd: dict[str, list[str]] = {}
    for outlier in outliers:
        odd.setdefault(outlier.case, []).append(outlier.what)
    blocks = "".join(_case(case, odd) for case in cases)
    return (
        "<h2>Scans</h2><p>Soft-tissue window; patient right is on the left. Axial and coronal slice with the most "
        f'organs.</p><div class="cases">{blocks}</div>'
    )


def _case(case: CaseMeasure, odd: Mapping[str, Sequence[str]]) -> str:
    found = odd.get(case.case, ())
    facts = [case.split, case.phase or "", "" if case.labelled else "unlabelled"]
    if case.shape:
        facts.append(
            " x ".join(map(str, case.shape)) + " voxels, " + " x ".join(f"{mm:.2f}" for mm in case.spacing) + " mm"
        )
    picture = _image(case.picture, "jpeg", case.case) if case.picture else f'<p class="bad">{escape(case.failure)}</p>'
    items = "".join(f"<li>{escape(what)}</li>" for what in found)
    return (
        f'<div class="case{" odd" if found else ""}" id="{escape(case.case)}"><b>{escape(case.case)}</b>{picture}'
        f"{escape(', '.join(fact for fact in facts if fact))}" + (f"<ul>{items}</ul>" if items else "") + "</div>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _image(content: bytes, kind: str, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{base64.b64encode(content).decode("ascii")}">'


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
