"""The scans of a cohort and their labels: volumes and DICOM series in folders, paired by their names, or in a table.

A place is a folder, searched to its bottom, or a pattern with ``*``, whose matched part is the name::

    scans/anna.nii.gz, scans/ben/ (a DICOM series)    --images scans              -> anna, ben
    p1/ct.nii.gz, p1/organs.nii.gz                    --images "*/ct.nii.gz" --labels "*/organs.nii.gz" -> p1

A table has a row for each scan. Only ``image`` is needed; paths are relative to its folder; ``organs`` are the
contoured ones, all of the cohort if empty; an empty ``split`` is drawn::

    image,label,phase,organs,patient,split
    ct/anna.nii.gz,seg/anna.nii.gz,portal_venous,liver;spleen,p1,training
    ct/ben,,,,p2,
"""

import csv
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.dataset.datalist_file import case_name, joined
from scripts.dataset.inference_inputs import VOLUME_SUFFIXES
from scripts.dataset.problems import listed
from scripts.dicom.headers import files_below
from scripts.dicom.series import find_series, listing
from scripts.files.result_files import results_in
from scripts.prepare.split import SPELLINGS, ScanEntry

logger = logging.getLogger(__name__)

COLUMNS = ("image", "label", "phase", "organs", "patient", "split", "case")
SEPARATORS = (",", ";", "\t")
# Our choice: 'labels' and 'patient_id' are slips, 'age' is a column of its own.
NEARLY_EQUAL = 0.8
NNUNET_CHANNEL = "_0000"
IMAGES = "images"
SEGMENTATION = "_seg"  # follows the scan's name in label maps of this bundle and of other programs


def find_scans(images: str, labels: str | None = None, patient_pattern: str | None = None) -> list[ScanEntry]:
    """List the scans of a cohort with their label maps; a scan without one is unlabelled.

    The first group of ``patient_pattern``, a regular expression that is searched in a scan's name, is its patient.
    Without a pattern, the patient of a DICOM series is the ID in its header, and other scans have one of their own.
    """
    scans = _named_files(images, IMAGES)
    named = _named_files(labels, "labels") if labels else {}
    label_of = _one_each([(_scan_of_label(name, scans), path) for name, path in named.items()], "labels")
    if orphans := sorted(name for name in label_of if name not in scans):
        names = f"{len(orphans)} labels have no scan of the same name: {listed(orphans)}; scans: "
        remedy = "Rename them, or give patterns such as --images 'ct/img*.nii.gz' --labels 'seg/label*.nii.gz'"
        raise ValueError(f"{names}{listed(sorted(scans))}. {remedy}, whose matched parts are the names.")
    patients = {name: _patient(name, path, patient_pattern) for name, path in scans.items()}
    return [ScanEntry(name, path, label_of.get(name), patient=patients[name]) for name, path in scans.items()]


def _named_files(place: str, what: str) -> dict[str, str]:
    """Name -> absolute path, sorted by name."""
    expanded = os.path.abspath(os.path.expanduser(place))
    if "*" in place:
        found = [(_matched_part(path, expanded), path) for path in sorted(glob(expanded, recursive=True))]
    elif os.path.isdir(expanded):
        found = _short_names(list(_volumes_below(expanded, results=what != IMAGES)), expanded)
    else:
        raise FileNotFoundError(f"{what} '{place}' is no folder; give the folder of the {what}, or a pattern with *.")
    if not found:
        wanted = f"no volume ({', '.join(VOLUME_SUFFIXES)}) and no DICOM series"
        raise FileNotFoundError(f"{what} '{place}' holds {wanted}; fix the path; RTSTRUCT, DICOM-SEG: --structures.")
    return _one_each(sorted(found), what)


def _one_each(found: Sequence[tuple[str, str]], what: str) -> dict[str, str]:
    """Pairs of name and path as a dictionary; ValueError for two of one name, the second of which would count."""
    paths: dict[str, str] = {}
    for name, path in found:
        if name in paths:
            raise ValueError(f"{what} {paths[name]} and {path} have one name, '{name}'; rename one of them or move it.")
        paths[name] = path
    return paths


def _volumes_below(folder: str, results: bool) -> Iterator[str]:
    """Volumes and series, without the results of a segmentation unless these are wanted."""
    folder_of = dict[str, str]()
    for root, names in files_below(folder):
        passed_over = set() if results else results_in(root, names)
        names = [name for name in names if name not in passed_over]
        volumes = [name for name in names if name.lower().endswith(VOLUME_SUFFIXES)]
        yield from (os.path.join(root, name) for name in volumes)
        if not names or (volumes and results):
            continue
        found = find_series(root, subfolders=False)
        series = [one for one in found if not one.obstacle]
        if len(series) > 1 or (series and volumes):
            beside = f" beside {listed(volumes, 3)}" if volumes else ""
            many = f"{root} holds {len(series)} DICOM series{beside}"
            raise ValueError(f"{many}; move each to its folder:\n{listing(series)}")
        if series:
            if (other := folder_of.setdefault(series[0].uid, root)) != root and series[0].uid:
                raise ValueError(f"{root} and {other} hold images of one DICOM series; move them to one folder.")
            yield root
        elif found and not volumes:
            logger.warning("%s is passed over, none of its DICOM series can be a CT volume:\n%s", root, listing(found))


def _short_names(paths: list[str], root: str) -> list[tuple[str, str]]:
    """Names of files in a folder: the file's own, or its whole way where two files have one name."""
    own = [case_name(path) for path in paths]
    if len(set(own)) == len(own):
        return list(zip(own, paths, strict=True))
    return [("_".join([*Path(path).relative_to(root).parent.parts, case_name(path)]), path) for path in paths]


def _matched_part(path: str, pattern: str) -> str:
    """What the stars of a pattern stand for: ``a/p1/ct.nii`` and ``a/*/ct.nii`` -> ``p1``; ``**`` also for folders."""
    stars, parts = {"*": "([^/]*)", "**": "(.*)"}, re.split(r"(\*+)", pattern.replace(os.sep, "/"))
    match = re.fullmatch("".join(stars.get(part) or re.escape(part) for part in parts), path.replace(os.sep, "/"))
    found = [part.replace("/", "_") for part in match.groups() if part] if match else []
    return case_name("_".join(found)) or case_name(path)


def _scan_of_label(name: str, scans: dict[str, str]) -> str:
    """The scan that a label belongs to; nnU-Net's scans end in the number of their channel."""
    spellings = (name, name.removesuffix(SEGMENTATION), name + NNUNET_CHANNEL)
    return next((spelling for spelling in spellings if spelling in scans), name)


def _patient(name: str, path: str, pattern: str | None) -> str | None:
    if pattern:
        match = re.search(pattern, name)
        if not match or not match.groups():
            expected = "a regular expression such as '^(p[0-9]+)_', whose first group is the patient"
            raise ValueError(f"the patient pattern '{pattern}' finds no group in '{name}'; expected {expected}.")
        return match[1]
    series = find_series(path) if os.path.isdir(path) else []
    return str(series[0].headers[0].get("PatientID") or "").strip() or None if series else None


def read_table(path: str, patient_pattern: str | None = None) -> list[ScanEntry]:
    """Read a table with commas, semicolons or tabs; patients as in `find_scans`; a ValueError names all rows to fix."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"table '{path}' does not exist; fix the path.")
    try:
        with open(path, encoding="utf-8-sig") as stream:
            header = stream.readline()  # of one column it has no separator, which pandas cannot find out by itself
            separator = max(SEPARATORS, key=header.count)
            cells = [len(row) for row in csv.reader([header, *stream], delimiter=separator)]
        if wide := [n for n, count in enumerate(cells, start=1) if count > cells[0]]:
            raise ValueError(
                f"table {path} has more cells in row {wide[0]} than columns: put cells with commas in quotes."
            )
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
    return [_scan(row, root, patient_pattern) for row in rows]


def _check_columns(columns: Sequence[str], path: str) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    close = ((name, match) for name in unknown for match in get_close_matches(name, COLUMNS, 1, NEARLY_EQUAL))
    misspelt = [f"'{name}' (did you mean '{match}'?)" for name, match in close]
    if "image" not in columns or misspelt:
        remedy = f"rename {', '.join(misspelt)}" if misspelt else "name the columns in the first row"
        raise ValueError(
            f"table {path} has {', '.join(columns)}; expected 'image', any of {', '.join(COLUMNS[1:])}; {remedy}."
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


def _scan(row: Mapping[Any, str], root: str, patient_pattern: str | None) -> ScanEntry:
    image = joined(root, os.path.expanduser(row["image"]))
    organs = tuple(name.strip() for name in row.get("organs", "").split(";") if name.strip())
    return ScanEntry(
        case=row.get("case") or case_name(image),
        image=image,
        label=joined(root, os.path.expanduser(row["label"])) if row.get("label") else None,
        phase=row.get("phase") or None,
        organs=organs or None,
        patient=row.get("patient") or _patient(case_name(image), image, patient_pattern),
        split=SPELLINGS[row["split"].lower()] if row.get("split") else None,
    )
