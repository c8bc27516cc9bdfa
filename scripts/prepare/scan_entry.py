"""The scans of a cohort, before and after it is decided which split each belongs to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.dataset.datalist_file import case_name
from scripts.prepare.split import TEST, TRAINING, VALIDATION, Split, deal_folds, hold_out, read_splits


@dataclass(frozen=True)
class ScanEntry:
    """A scan and what is known about it.

    Attributes:
        case: its name in every result.
        image: absolute path of the volume, or of the folder of its DICOM series.
        label: absolute path of its label map; None for an unlabelled scan.
        phase: contrast phase, None if unknown.
        organs: the organs that were contoured; None for all of the cohort.
        patient: patient of the scan; None for a patient of its own.
        split: split that it belongs to; None to draw.
    """

    case: str
    image: str
    label: str | None = None
    phase: str | None = None
    organs: tuple[str, ...] | None = None
    patient: str | None = None
    split: str | None = None

    @property
    def patient_or_case(self) -> str:
        """The unit that is kept in one split."""
        return self.patient or self.case


def datalist_entry(scan: ScanEntry) -> dict[str, Any]:
    """The scan as a datalist lists it: only the keys that say something."""
    entry: dict[str, Any] = {"image": scan.image}
    if scan.case != case_name(scan.image):
        entry["case"] = scan.case
    if scan.label:
        entry["label"] = scan.label
    if scan.label and scan.organs is not None:
        entry["annotated"] = list(scan.organs)
    entry |= {key: value for key in ("phase", "patient") if (value := getattr(scan, key))}
    return entry


def datalist_of(scans: Sequence[ScanEntry], splits: Mapping[str, str], order: Sequence[str]) -> dict[str, Any]:
    """Entries by split.

    Args:
        scans: all scans.
        splits: case -> split; scans that it does not name are left out.
        order: splits that the datalist has even if they are empty, and their order.
    """
    return {
        split: [datalist_entry(scan) for scan in scans if splits.get(scan.case) == split]
        for split in dict.fromkeys([*order, *splits.values()])
    }


DRAWS = 100
logger = logging.getLogger(__name__)


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

    A scan that names its split goes there with all scans of its patient. The other patients with a label are drawn,
    unless a scan was already put into the validation; patients without any label train.

    Args:
        scans: the cohort.
        organs: every organ of the cohort; a draw is repeated with the next seed while one of them is contoured in no
            training scan, or could be in the validation and is not.
        validation: share of the drawn patients.
        test: share of the drawn patients.
        folds: 1 for one split; otherwise every drawn patient is held out by one of the folds.
        seed: seed of the draw; the same seed gives the same split.
        split_file: see ``scripts.prepare.split.read_splits``; cases that it leaves out are left out.

    Raises:
        ValueError: no scan is labelled, one patient is put into two splits, or too few patients are left to train on.
    """
    if not any(scan.label for scan in scans):
        raise ValueError(f"none of the {len(scans)} scans has a label; give --labels, or a table with a label column.")
    if split_file:
        splits = read_splits(split_file, [scan.case for scan in scans])
        left_out = [scan.case for scan in scans if scan.case not in splits[0]]
        if left_out:
            logger.warning("%s leaves out %d cases: %s.", split_file, len(left_out), ", ".join(left_out[:10]))
        return splits
    placed = _placed_patients(scans)
    free = sorted({scan.patient_or_case for scan in scans if scan.label} - set(placed))
    if not free or (folds == 1 and VALIDATION in placed.values()):
        drawn: list[Split] = [{}]
    elif folds > 1:
        drawn = deal_folds(free, folds)
    else:
        drawn = [_covering_draw(scans, placed, free, organs, (validation, test), seed)]
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
    scans: Sequence[ScanEntry],
    placed: Split,
    free: Sequence[str],
    organs: Sequence[str],
    shares: tuple[float, float],
    seed: int,
) -> Split:
    """The draw of the first seed that leaves every organ in training and, where there are several, in validation."""
    first = hold_out(free, *shares, seed)
    patients_of = {
        organ: {scan.patient_or_case for scan in scans if scan.label and (scan.organs is None or organ in scan.organs)}
        for organ in organs
    }
    for further in range(DRAWS):
        split = placed | hold_out(free, *shares, seed + further)
        reached = {organ: {split.get(patient) for patient in patients} for organ, patients in patients_of.items()}
        if all(
            TRAINING in where and (VALIDATION in where or len(patients_of[organ]) < 2)
            for organ, where in reached.items()
            if patients_of[organ]
        ):
            return split
    logger.warning("No draw puts every organ into training and validation; give a split of your own with --split.")
    return placed | first


def state_split(splits: Sequence[Split], number: int, how: str) -> str:
    """A sentence on a split for the datalist."""
    counts = {split: list(splits[number].values()).count(split) for split in (TRAINING, VALIDATION, TEST)}
    shown = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    return f"{how}: {shown}" if len(splits) == 1 else f"fold {number} of {len(splits)}, {how}: {shown}"
