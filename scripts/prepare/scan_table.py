"""Scans in a table: one row each, the columns say what is known about it.

    image,label,phase,organs,patient,split
    ct/anna.nii.gz,seg/anna.nii.gz,portal_venous,liver;spleen,p1,training
    ct/ben,,,,p2,

Only ``image`` is needed. Paths are relative to the table's folder; ``organs`` are the contoured ones, separated by
``;``, all of the cohort if empty; ``split`` is training, validation or test, or empty to draw one.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd

from scripts.dataset.datalist_file import case_name
from scripts.prepare.scan_entry import ScanEntry
from scripts.prepare.split import SPELLINGS

COLUMNS = ("image", "label", "phase", "organs", "patient", "split", "case")
SEPARATORS = (",", ";", "\t")
# Our choice: 'labels' and 'patient_id' are slips, 'age' is a column of its own.
NEARLY_EQUAL = 0.8
logger = logging.getLogger(__name__)


def read_table(path: str) -> list[ScanEntry]:
    """Read a table of scans, separated by commas, semicolons or tabs; a ValueError names all rows to fix at once."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"table '{path}' does not exist; fix the path.")
    try:
        with open(path, encoding="utf-8-sig") as stream:
            header = stream.readline()  # of one column it has no separator, which pandas cannot find out by itself
        separator = max(SEPARATORS, key=header.count)
        frame = pd.read_csv(path, sep=separator, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"table {path} cannot be read ({error}); save it as CSV in UTF-8.") from error
    frame.columns = frame.columns.str.strip().str.lower()
    _check_columns(list(frame.columns), path)
    root = os.path.dirname(os.path.abspath(path))
    rows = frame.fillna("").apply(lambda column: column.str.strip()).to_dict(orient="records")
    problems = [f"row {n}: {problem}" for n, row in enumerate(rows, start=2) if (problem := _row_problem(row))]
    if problems or not rows:
        found = "\n  ".join(problems or ["it has no row"])
        raise ValueError(f"table {path} has rows to fix:\n  {found}")
    return [_scan(row, root) for row in rows]


def _check_columns(columns: Sequence[str], path: str) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    close = ((name, match) for name in unknown for match in get_close_matches(name, COLUMNS, 1, NEARLY_EQUAL))
    misspelt = [f"'{name}' (did you mean '{match}'?)" for name, match in close]
    if "image" not in columns or misspelt:
        remedy = f"rename {', '.join(misspelt)}" if misspelt else "name the columns in the first row"
        raise ValueError(
            f"table {path} has the columns {', '.join(columns)}; expected 'image' and any of {', '.join(COLUMNS[1:])}; "
            f"{remedy}."
        )
    if unknown:
        logger.info("%s: the columns %s are not used.", path, ", ".join(unknown))


def _row_problem(row: Mapping[Any, str]) -> str:
    if not row["image"]:
        return "'image' is empty; name the scan, or remove the row"
    if row.get("split") and row["split"].lower() not in SPELLINGS:
        return f"'split' of {row['image']} is '{row['split']}'; expected training, validation, test or nothing"
    if row.get("organs") and not row.get("label"):
        return f"{row['image']} has 'organs' but no 'label'; name its label, or clear 'organs'"
    return ""


def _scan(row: Mapping[Any, str], root: str) -> ScanEntry:
    image = _absolute(row["image"], root)
    organs = tuple(name.strip() for name in row.get("organs", "").split(";") if name.strip())
    return ScanEntry(
        case=row.get("case") or case_name(image),
        image=image,
        label=_absolute(row["label"], root) if row.get("label") else None,
        phase=row.get("phase") or None,
        organs=organs or None,
        patient=row.get("patient") or None,
        split=SPELLINGS[row["split"].lower()] if row.get("split") else None,
    )


def _absolute(path: str, root: str) -> str:
    return os.path.normpath(os.path.join(root, os.path.expanduser(path)))
