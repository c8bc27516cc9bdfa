"""Contours that training leaves out: the rows that a person marked in the table of ``scripts.dataset_report.doubts``.

    exclude,case,organ
    yes,anna,liver

Other columns do not count. The organ is then not contoured in that case: it is unknown there, not absent.
"""

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.dataset.problems import listed

MARKED, NOT_MARKED = {"yes", "y", "x", "1", "true"}, {"", "no", "n", "0", "false"}


def read_exclusions(path: str, cases: Collection[str], organs: Collection[str]) -> set[tuple[str, str]]:
    """Case and organ of each marked row; a ValueError lists the rows that name no case or organ of the data set."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"exclude names {path}, which does not exist: fix the path, or leave it out (null).")
    try:
        rows = list(csv.DictReader(Path(path).read_text(encoding="utf-8-sig").splitlines(keepends=True)))
    except UnicodeDecodeError as error:
        raise ValueError(f"exclude: {path} cannot be read ({error}): save it as CSV in UTF-8.") from error
    if rows and (missing := [name for name in ("exclude", "case", "organ") if name not in rows[0]]):
        raise ValueError(f"{path} has no column {', '.join(missing)}: expected exclude, case and organ in row 1.")
    marked, problems = set(), []
    for number, row in enumerate(rows, start=2):
        mark, case, organ = ((row[name] or "").strip() for name in ("exclude", "case", "organ"))
        if mark.lower() in MARKED:
            marked.add((case, organ))
            problems += [f"row {number}: no case '{case}'"] if case not in cases else []
            problems += [f"row {number}: no organ '{organ}'"] if organ not in organs else []
        elif mark.lower() not in NOT_MARKED:
            problems.append(f"row {number}: exclude is '{mark}', expected yes or nothing")
    if problems:
        shown = listed(problems, separator="\n  ")
        raise ValueError(f"exclude: {path} has rows to fix, or is of another data set:\n  {shown}")
    return marked


def without(cases: Sequence[Mapping[str, Any]], excluded: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    """The cases, with each excluded organ not contoured; one that has no other organ is unlabelled."""
    kept = []
    for case in cases:
        annotated = [organ for organ in case["annotated"] if (case["case"], organ) not in excluded]
        dropped = {"label"} if case["annotated"] and not annotated else set()
        kept.append({key: case[key] for key in case.keys() - dropped} | {"annotated": annotated})
    return kept
