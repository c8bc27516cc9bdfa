"""The scans of a cohort, and which split each belongs to: always by patient, never by scan.

Folds are dealt as nnU-Net deals them, so that results over five folds of the same cases compare with its own.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sklearn.model_selection import KFold, train_test_split

from scripts.dataset.datalist_file import case_name, read_json
from scripts.dataset.problems import listed

SPLITS = TRAINING, VALIDATION, TEST = "training", "validation", "test"
NNUNET_SEED = 12345
DRAWS = 100
SPELLINGS = {"train": TRAINING, "val": VALIDATION} | {split: split for split in SPLITS}
Split = dict[str, str]  # case (or patient) -> its split
logger = logging.getLogger(__name__)


def deal_folds(names: Sequence[str], folds: int = 5, seed: int = NNUNET_SEED) -> list[Split]:
    """Deal cases or patients into at least two folds; fold k is the validation of the k-th split."""
    ordered = sorted(set(names))
    if not 2 <= folds <= len(ordered):
        raise ValueError(f"{folds} folds of {len(ordered)} patients are not possible; give 2 to {len(ordered)} folds.")
    dealt = KFold(folds, shuffle=True, random_state=seed).split(ordered)
    return [dict.fromkeys(ordered, TRAINING) | {ordered[n]: VALIDATION for n in held_out} for _, held_out in dealt]


def hold_out(names: Sequence[str], validation: float, test: float = 0.0, seed: int = 0) -> Split:
    """Draw the patients of validation (at least one) and test at random, by their shares; the others train."""
    ordered = sorted(set(names))
    counts = {VALIDATION: max(1, round(validation * len(ordered))), TEST: round(test * len(ordered))}
    held_out = sum(counts.values())
    if min(validation, test) < 0 or held_out >= len(ordered):
        shares = f"shares of {validation:g} for validation and {test:g} for test"
        remedy = "lower them or add labelled patients; scans with one DICOM PatientID are of one patient"
        raise ValueError(f"{shares} hold out {held_out} of {len(ordered)} labelled patients; {remedy}.")
    _, drawn = train_test_split(ordered, test_size=held_out, random_state=seed)
    validating = dict.fromkeys(drawn[: counts[VALIDATION]], VALIDATION)
    return dict.fromkeys(ordered, TRAINING) | dict.fromkeys(drawn, TEST) | validating


def read_splits(path: str, cases: Sequence[str]) -> list[Split]:
    """Read a user's split of the cases: one JSON object of lists, or a list of such objects, one for each fold.

    Names are those of cases or of their files; ``train`` and ``val`` are understood, as in a file of nnU-Net.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"split file '{path}' does not exist; fix the path.")
    content = read_json(path, "split file")
    folds = content if isinstance(content, list) else [content]
    if not folds or not all(_is_split(fold) for fold in folds):
        expected = '{"training": [names], "validation": [names]}, or a list of these, one for each fold'
        raise ValueError(f"split file {path} has another form than expected: {expected}; fix the file.")
    return [_read_fold(fold, cases, path if len(folds) == 1 else f"fold {n} of {path}") for n, fold in enumerate(folds)]


def _is_split(fold: Any) -> bool:
    return (
        isinstance(fold, dict)
        and {TRAINING, VALIDATION} <= {SPELLINGS.get(key, "") for key in fold}
        and all(key in SPELLINGS and isinstance(names, list) for key, names in fold.items())
    )


def _read_fold(fold: Mapping[str, Sequence[Any]], cases: Sequence[str], where: str) -> Split:
    pairs = [(case_name(str(name)), SPELLINGS[key]) for key, names in fold.items() for name in names]
    counts, chosen = Counter(name for name, _ in pairs), dict(pairs)
    unknown = [name for name in counts if name not in cases]
    twice = [name for name, count in counts.items() if count > 1]
    if unknown or twice:
        wrong = f"cases that are not there: {listed(unknown) or 'none'}; and cases twice: {listed(twice) or 'none'}"
        raise ValueError(f"{where} names {wrong}. Each of {listed(cases)} can be listed once; fix the file.")
    if empty := sorted({TRAINING, VALIDATION} - set(chosen.values())):
        raise ValueError(f"{where} has no case for {' and '.join(empty)}; add some.")
    return chosen


@dataclass(frozen=True)
class ScanEntry:
    """A scan by its name in every result, and what is known about it; paths are absolute."""

    case: str
    image: str  # a volume, or the folder of a DICOM series
    label: str | None = None  # None for an unlabelled scan
    phase: str | None = None  # None if unknown
    organs: tuple[str, ...] | None = None  # those that were contoured; None for all of the cohort
    patient: str | None = None  # None for a patient of its own
    split: str | None = None  # None to draw

    @property
    def patient_or_case(self) -> str:
        """The unit that is kept in one split."""
        return self.patient or self.case


def datalist_of(scans: Sequence[ScanEntry], splits: Split) -> dict[str, Any]:
    """The entries of a datalist by split; training and validation are there even if they are empty."""
    names = dict.fromkeys([TRAINING, VALIDATION, *splits.values()])
    return {split: [_entry(scan) for scan in scans if splits.get(scan.case) == split] for split in names}


def _entry(scan: ScanEntry) -> dict[str, Any]:
    """Only the keys that say something."""
    known = {
        "image": scan.image,
        "case": scan.case if scan.case != case_name(scan.image) else None,
        "label": scan.label,
        "annotated": list(scan.organs) if scan.label and scan.organs is not None else None,
        "phase": scan.phase,
        "patient": scan.patient,
    }
    return {key: value for key, value in known.items() if value is not None and value != ""}


def split_scans(
    scans: Sequence[ScanEntry],
    organs: Sequence[str],
    validation: float = 0.2,
    test: float = 0.0,
    folds: int = 1,
    seed: int = 0,
    split_file: str | None = None,
) -> list[Split]:
    """Decide for every case where it goes; one split, or one for each fold.

    A scan that names its split goes there with all scans of its patient. The other patients with a label are drawn by
    the shares of validation and test, or dealt so that each is held out by one of several folds, unless a scan was
    already put into the validation; patients without any label train. A draw is repeated with the next seed while an
    organ is contoured in no training scan, or could be in the validation and is not. A split file decides alone.
    """
    if not any(scan.label for scan in scans):
        raise ValueError(f"none of the {len(scans)} scans has a label; give --labels, or a table with a label column.")
    if split_file:
        splits = read_splits(split_file, [scan.case for scan in scans])
        if left_out := [scan.case for scan in scans if scan.case not in splits[0]]:
            logger.warning("%s leaves out %d cases: %s.", split_file, len(left_out), listed(left_out))
        return splits
    placed = _placed_patients(scans)
    free = sorted({scan.patient_or_case for scan in scans if scan.label} - set(placed))
    if folds > 1 and test:
        raise ValueError(f"{folds} folds hold out no test patients: leave out the share of test, {test:g}.")
    if folds > 1 and VALIDATION in placed.values():
        raise ValueError(f"each of {folds} folds validates on patients of its own: clear 'validation' in the table.")
    if not free or VALIDATION in placed.values():
        drawn: list[Split] = [{}]
    elif folds > 1:
        drawn = deal_folds(free, folds)
    else:
        drawn = [_covering_draw(scans, placed, organs, partial(hold_out, free, validation, test), seed)]
    return [{scan.case: (placed | split).get(scan.patient_or_case, TRAINING) for scan in scans} for split in drawn]


def _placed_patients(scans: Sequence[ScanEntry]) -> Split:
    """Patients whose scans name a split."""
    placed: Split = {}
    for scan in scans:
        if scan.split and placed.setdefault(scan.patient_or_case, scan.split) != scan.split:
            two = f"in the splits {placed[scan.patient_or_case]} and {scan.split}"
            raise ValueError(f"patient {scan.patient_or_case} is {two}; keep all scans of a patient in one split.")
    return placed


def _covering_draw(
    scans: Sequence[ScanEntry], placed: Split, organs: Sequence[str], draw: Callable[[int], Split], seed: int
) -> Split:
    """The draw of the first seed that leaves every organ in training and, where there are several, in validation."""
    labelled = [scan for scan in scans if scan.label]
    patients_of_organs = [
        {scan.patient_or_case for scan in labelled if scan.organs is None or organ in scan.organs} for organ in organs
    ]
    wanted = [({TRAINING, VALIDATION} if len(who) > 1 else {TRAINING}, who) for who in patients_of_organs if who]
    for further in range(DRAWS):
        split = placed | draw(seed + further)
        if all(splits <= {split.get(patient) for patient in who} for splits, who in wanted):
            return split
    logger.warning("No draw puts every organ into training and validation; give a split of your own with --split.")
    return placed | draw(seed)


def state_split(splits: Sequence[Split], number: int, how: str) -> str:
    """A sentence on a split for the datalist."""
    counts = {split: list(splits[number].values()).count(split) for split in SPLITS}
    shown = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    return f"{how}: {shown}" if len(splits) == 1 else f"fold {number} of {len(splits)}, {how}: {shown}"
