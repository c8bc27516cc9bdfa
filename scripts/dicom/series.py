"""The series in a folder, and the one that is to be segmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.dicom.headers import CT_IMAGE, ENHANCED_CT_IMAGE, Header, headers_below


@dataclass(frozen=True)
class Series:
    """Images of one DICOM series.

    Attributes:
        uid: SeriesInstanceUID.
        headers: header of each file, in the order of their paths.
        obstacle: why it cannot be a CT volume, seen from the kind of its images alone; empty if it may be one.
    """

    uid: str
    headers: tuple[Header, ...]
    obstacle: str = ""

    def __str__(self) -> str:
        first = self.headers[0]
        count = len(self.headers)
        text = f"'{first.get('SeriesDescription', '')}', {first.get('Modality', '?')}, {count} file{'s'[: count > 1]}"
        return f"{text}, UID {self.uid}" + (f" (left aside: {self.obstacle})" if self.obstacle else "")


def find_series(folder: str) -> list[Series]:
    """List the series in a folder and its subfolders, those that may be CT volumes first, each kind by series number.

    A localizer within a series is taken out of it. An image that lies there twice counts once.
    """
    groups: dict[tuple[str, str], dict[str, Header]] = {}
    for header in headers_below(folder):
        group = groups.setdefault((str(header.get("SeriesInstanceUID", "")), _obstacle(header)), {})
        # The place too: a faulty export may give one UID to different images.
        image = f"{header.get('SOPInstanceUID', header.filename)} {header.get('ImagePositionPatient')}"
        group.setdefault(image, header)
    found = [Series(uid, tuple(group.values()), obstacle) for (uid, obstacle), group in groups.items()]
    return sorted(found, key=lambda one: (bool(one.obstacle), _number(one), one.uid))


def choose_series(found: Sequence[Series], wanted: str | int | None, folder: str) -> Series:
    """Choose the series to segment.

    Of several series that could be meant none is chosen for the user: another contrast phase segmented in place of the
    scan that was meant would not be noticed.

    Args:
        found: the series in the folder.
        wanted: a SeriesInstanceUID, or the place in the list from 1 on; None: the only one that may be a volume.
        folder: named in messages.

    Raises:
        ValueError: none or several could be meant, or the wanted one is not there; the message lists them.
    """
    listed = listing(found)
    if wanted is not None:
        for place, series in enumerate(found, start=1):
            if str(wanted) in (series.uid, str(place)) and not series.obstacle:
                return series
        raise ValueError(
            f"folder {folder} has no CT series '{wanted}'; give the number or the UID of one of these:\n{listed}"
        )
    candidates = [series for series in found if not series.obstacle]
    if not candidates:
        raise ValueError(f"folder {folder} holds DICOM files, but no CT series that can be a volume:\n{listed}")
    if len(candidates) > 1:
        raise ValueError(
            f"folder {folder} holds {len(candidates)} CT series, expected one. Say which with `--series NUMBER` or "
            f"`--series UID`, or give the folder of one of them:\n{listed}"
        )
    return candidates[0]


def listing(found: Sequence[Series]) -> str:
    """The series, one numbered line each."""
    return "\n".join(f"  {place}: {series}" for place, series in enumerate(found, start=1))


def _obstacle(header: Header) -> str:
    if header.SOPClassUID == ENHANCED_CT_IMAGE or int(header.get("NumberOfFrames", 1) or 1) > 1:
        return "several frames in one file are not read, convert it to NIfTI with dcm2niix and give that"
    if header.SOPClassUID != CT_IMAGE:
        return f"no CT image but {header.SOPClassUID.name}"
    if "LOCALIZER" in header.get("ImageType", []):
        return "localizer"
    return ""


def _number(series: Series) -> int:
    return int(series.headers[0].get("SeriesNumber") or 0)
