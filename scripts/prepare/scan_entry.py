"""One scan of a cohort, before it is known which split it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.dataset.datalist_file import case_name


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
