"""The scans of a cohort, before and after it is decided which split each belongs to."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from scripts.dataset.datalist_file import case_name
from scripts.dataset.problems import listed
from scripts.prepare.split import SPLITS, TRAINING, VALIDATION, Split, deal_folds, hold_out, read_splits

DRAWS = 100
logger = logging.getLogger(__name__)


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
    organ is contoured in no training scan, or could be in the validation and is not. A split file (see
    ``scripts.prepare.split.read_splits``) decides alone; cases that it leaves out are left out.

    Raises:
        ValueError: no scan is labelled, one patient is put into two splits, or too few patients are left to train on.
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
    if not free or (folds == 1 and VALIDATION in placed.values()):
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
            raise ValueError(
                f"patient {scan.patient_or_case} is in the splits {placed[scan.patient_or_case]} and {scan.split}; "
                "keep all scans of a patient in one split."
            )
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
