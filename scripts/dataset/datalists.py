"""From a Decathlon-style datalist to the cases that every stage consumes.

A datalist is a JSON file in the layout of the Medical Segmentation Decathlon (Antonelli et al., Nature Communications
13, 2022) with optional keys of our own per entry: ``annotated`` (the organs that were contoured, all if absent),
``phase`` (the contrast phase), ``patient`` (whose scans stay in one split), ``case`` (a name other than the file's) and
``labels`` (the label values of this entry, where cohorts with other values are merged)::

    {"labels": {"0": "background", "1": "spleen", "2": "liver"},
     "training": [{"image": "images/x.nii.gz", "label": "labels/x.nii.gz", "annotated": ["spleen"]}]}

becomes, for ``organs=["liver", "spleen"]``::

    {"case": "x", "image": "/data/images/x.nii.gz", "label": "/data/labels/x.nii.gz", "annotated": ["spleen"],
     "phase": None, "label_values": {"liver": 2, "spleen": 1}, "known_values": [0, 1, 2]}
"""

import json
import logging
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from scripts.dataset import datalist_file
from scripts.dataset.exclusions import read_exclusions, without
from scripts.dataset.label_values import LabelValues, organs_of_datalist, plain_name, read_label_values
from scripts.dataset.problems import DatasetError, Kind, Problem, listed

logger = logging.getLogger(__name__)
_log_once = cache(logger.info)  # once per datalist, however many splits are loaded from it


def load_cases(
    dataset_dir: str,
    split: str,
    organs: Sequence[str],
    datalist: str = "dataset.json",
    limit: int | None = None,
    labelled: bool = False,
    labelled_fraction: float | None = None,
    seed: int = 0,
    exclude: str | None = None,
) -> list[dict[str, Any]]:
    """List the cases of one split.

    ``dataset_dir`` is the folder that the paths in the datalist, a file in it or an absolute path, are relative to. The
    organs are those of the config, in the order of their class indices; other organs of the dataset become background,
    and one log line per datalist says so. ``limit`` keeps the first so many cases. ``labelled`` leaves out scans
    without a label of the organs, with a log line: none can be scored. ``labelled_fraction`` and ``seed`` are those of
    :func:`keep_labels_of`; ``exclude`` is a table of contours that do not count (:mod:`scripts.dataset.exclusions`).

    Returned is a dictionary per case, as shown above; ``label`` and ``patient`` only where the entry has one, values of
    an organ that has several as a list, and ``ignored_value`` (of unknown pixels) if the dataset has ``ignored``.
    ValueError: the datalist is broken, divides a patient, has no such split or organ, or an entry is incomplete.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1 case; leave it out (null) to use all of them.")
    root = os.path.abspath(os.path.expanduser(dataset_dir))
    if not os.path.isdir(root):
        expected = f"expected the folder of the datalist '{datalist}' and its images"
        raise FileNotFoundError(f"dataset_dir '{dataset_dir}' is not a folder, {expected}; set dataset_dir to it.")
    path = os.path.join(root, os.path.expanduser(datalist))
    content = datalist_file.read_datalist(path)
    _refuse_overlap(content, root, split if labelled else "training")
    known_organs = organs_of_datalist(content, path)
    _require_known_organs(organs, known_organs, path)
    shared = read_label_values(content.get("labels"), f"datalist {path}")
    entries = datalist_file.entries_of_split(content, split, path)
    _refuse_broken_entries(entries, split, shared, path)
    # What a datalist of photographs says of all its masks: the value of unknown pixels, and whose palette it is.
    keys = {"ignored": "ignored_value", "voc_palette": "voc_palette"}
    of_masks = {name: content[key] for key, name in keys.items() if key in content}
    cases = [_case(entry, root, organs, _values_of_entry(entry, shared)) | of_masks for entry in entries]
    datalist_file.refuse_equal_names(cases, f"split '{split}' of {path}")
    if untrained := sorted(set(known_organs) - set(organs)):
        _log_once("Organs of %s that the config does not list become background: %s.", path, ", ".join(untrained))
    if exclude is not None:
        cases = without(cases, read_exclusions(exclude, case_names(content), known_organs))
    if labelled:
        cases = _with_label(cases, split, path)
    cases = cases[:limit]
    return cases if labelled_fraction is None else keep_labels_of(cases, labelled_fraction, organs, seed)


def case_names(content: Mapping[str, Any]) -> set[str]:
    """Names of the cases of all splits: a table of exclusions may be about several."""
    entries = (entry for split in datalist_file.split_names(content) for entry in _scans_of(content, split))
    return {entry.get("case") or datalist_file.case_name(entry["image"]) for entry in entries}


def _scans_of(content: Mapping[str, Any], split: str) -> list[Any]:
    stated = [{"image": entry} if isinstance(entry, str) else entry for entry in content.get(split) or ()]
    return [entry for entry in stated if datalist_file.has_image(entry)]


def _refuse_overlap(content: Mapping[str, Any], root: str, scored: str) -> None:
    """Refuse patients of several splits and training scans in others: a training reads a part of the others only."""
    seen: dict[tuple[Kind, str], list[str]] = {}
    for split in dict.fromkeys(("training", "validation", "test", scored)):
        entries = _scans_of(content, split)
        patients = {(Kind.PATIENT, str(entry["patient"])) for entry in entries if entry.get("patient")}
        for one in patients | {(Kind.DUPLICATE, os.path.realpath(os.path.join(root, e["image"]))) for e in entries}:
            seen.setdefault(one, []).append(split)
    several = {one: splits for one, splits in seen.items() if len(splits) > 1}
    wrong = [one for one, splits in several.items() if one[0] is Kind.PATIENT or splits[0] == "training"]
    if problems := [Problem(*one, f"in {' and '.join(several[one])}") for one in wrong]:
        raise DatasetError(sorted(problems, key=str))


def _with_label(cases: list[dict[str, Any]], split: str, path: str) -> list[dict[str, Any]]:
    """The cases that have a label of a configured organ; at least one must."""
    kept = [case for case in cases if "label" in case and case["annotated"]]
    if not kept:
        expected = "expected one that is contoured for an organ of the config; fix its 'label' or 'annotated'"
        raise ValueError(f"split '{split}' of {path} has no labelled case, {expected}.")
    if left_out := len(cases) - len(kept):
        logger.info("%s: %d scans of split '%s' have no label of the organs and are left out.", path, left_out, split)
    return kept


def _values_of_entry(entry: Mapping[str, Any], shared: LabelValues) -> LabelValues:
    """The label values of an entry: its own, or those of the whole datalist."""
    return read_label_values(entry["labels"], f"the entry {entry['image']}") if "labels" in entry else shared


def _require_known_organs(organs: Sequence[str], known: Sequence[str], path: str) -> None:
    if not organs or len(set(organs)) < len(organs):
        raise ValueError(f"organs is {list(organs)}, expected one name or more, each once; fix it in the config.")
    if unknown := [_with_suggestion(organ, known) for organ in organs if organ not in known]:
        wrong = f"the config lists organs that datalist {path} does not know: {'; '.join(unknown)}"
        raise ValueError(f"{wrong}. The dataset's organs are: {', '.join(known)}. Change the config's, or 'labels'.")


def _with_suggestion(name: str, known: Iterable[str]) -> str:
    """The quoted name, followed by the known name that resembles it most, if any does."""
    spellings = {plain_name(organ): organ for organ in known}
    close = get_close_matches(plain_name(name), spellings, n=1)
    return f"'{name}' (did you mean '{spellings[close[0]]}'?)" if close else f"'{name}'"


def _refuse_broken_entries(entries: Sequence[Any], split: str, shared: LabelValues, path: str) -> None:
    found = ((number, _entry_problem(entry, shared)) for number, entry in enumerate(entries, start=1))
    if problems := [f"entry {number}: {problem}" for number, problem in found if problem]:
        shown = listed(problems, separator="\n  ")
        raise ValueError(f"split '{split}' of datalist {path} has entries to fix:\n  {shown}")


def _entry_problem(entry: Any, shared: LabelValues) -> str:
    """What is wrong with an entry of the datalist and how to fix it; empty if nothing is."""
    if not datalist_file.has_image(entry):
        return f"{json.dumps(entry)} has no 'image'; add the path of the scan, or remove the entry"
    image = entry["image"]
    if not isinstance(entry.get("label"), str | None) or entry.get("label") == "":
        return f"'label' of {image} is {entry['label']!r}; expected a path; leave the key out for an unlabelled scan"
    for key in ("phase", "patient", "case"):
        if not isinstance(entry.get(key), str | None):
            return f"'{key}' of {image} is {entry[key]!r}; expected a name; leave the key out if it is unknown"
    annotated = [] if entry.get("annotated") is None else entry["annotated"]
    if not isinstance(annotated, list) or not all(isinstance(organ, str) for organ in annotated):
        return f"'annotated' of {image} is {annotated!r}; expected a list of organ names"
    if annotated and not entry.get("label"):
        return f"{image} has 'annotated' organs but no 'label'; add the label's path, or remove 'annotated'"
    known = _values_of_entry(entry, shared).organs
    if unknown := [_with_suggestion(organ, known) for organ in annotated if organ not in known]:
        return f"'annotated' of {image} names {', '.join(unknown)}, which 'labels' does not know; fix the spelling"
    return ""


def _case(entry: Mapping[str, Any], root: str, organs: Sequence[str], values: LabelValues) -> dict[str, Any]:
    paths = {key: datalist_file.joined(root, entry[key]) for key in datalist_file.PATH_KEYS if entry.get(key)}
    contoured = entry.get("annotated")
    if contoured is None:
        contoured = values.organs if "label" in paths else ()
    return {
        "case": entry.get("case") or datalist_file.case_name(paths["image"]),
        **paths,
        "annotated": [organ for organ in organs if organ in contoured],
        "phase": entry.get("phase"),
        **({"patient": entry["patient"]} if entry.get("patient") else {}),
        "label_values": {organ: values.organs[organ] for organ in organs if organ in values.organs},
        "known_values": values.known,
    }


def keep_labels_of(
    cases: Sequence[Mapping[str, Any]], fraction: float, organs: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """Keep the labels of a share in (0, 1] of the labelled cases, at least of one; the others become unlabelled.

    The random choice begins with one case for each organ that was contoured at all, so that a small share still trains
    every organ. The same seed keeps the same labels, and a smaller share of it is part of a larger one.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"labelled_fraction is {fraction}, expected a share above 0 and up to 1, such as 0.1.")
    order = [number for number, case in enumerate(cases) if case.get("label")]
    random.Random(seed).shuffle(order)
    first: list[int] = []
    for organ in sorted(organs, key=lambda organ: sum(organ in cases[number]["annotated"] for number in order)):
        with_organ = [number for number in order if organ in cases[number]["annotated"]]
        if with_organ and not set(with_organ) & set(first):
            first.append(with_organ[0])
    chosen = first + [number for number in order if number not in first]
    kept = set(chosen[: max(1, round(fraction * len(order)))])
    logger.info("labelled_fraction %g: %d of %d labelled cases keep their label.", fraction, len(kept), len(order))
    unlabelled = [{key: value for key, value in case.items() if key != "label"} | {"annotated": []} for case in cases]
    return [dict(case) if number in kept else unlabelled[number] for number, case in enumerate(cases)]
