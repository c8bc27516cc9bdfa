"""The series in a folder, and the one that is to be segmented."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.dicom.headers import AGAIN, CT_IMAGE, ENHANCED_CT_IMAGE, Header, headers_below

FRAMES = "several frames in one file are not read, convert it to NIfTI with dcm2niix and give that"


@dataclass(frozen=True)
class Series:
    """Images of one DICOM series: its UID, and the header of each file, in the order of their paths.

    `obstacle` says why it cannot be a CT volume, seen from the kind of its images alone, `unreadable` the path of each
    file that may be a slice of it and cannot be read, with the reason; both are empty if there is none.
    """

    uid: str
    headers: tuple[Header, ...]
    obstacle: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        first = self.headers[0]
        count = len(self.headers)
        text = f"'{first.get('SeriesDescription', '')}', {first.get('Modality', '?')}, {count} file{'s'[: count > 1]}"
        return f"{text}, UID {self.uid}" + (f" (left aside: {self.obstacle})" if self.obstacle else "")


def find_series(folder: str, subfolders: bool = True) -> list[Series]:
    """List the series in a folder (and its subfolders), possible CT volumes first, each kind by series number.

    A localizer within a series is taken out. An image that lies there twice counts once. A file that cannot be read
    counts for the series of its folder; where that holds no readable file, for all. ValueError: no slice can be read.
    """
    headers, unreadable = headers_below(folder, subfolders)
    if unreadable and not headers:
        raise ValueError(unreadable_files(unreadable))
    groups: dict[tuple[str, str], dict[str, Header]] = {}
    for header in headers:
        group = groups.setdefault((str(header.get("SeriesInstanceUID") or ""), _obstacle(header)), {})
        group.setdefault(_identity(header, group), header)
    readable = {os.path.dirname(header.filename) for header in headers}
    found = []
    for (uid, obstacle), group in groups.items():
        own = {os.path.dirname(header.filename) for header in group.values()}
        suspects = {path: reason for path, reason in unreadable.items() if os.path.dirname(path) not in readable - own}
        if not obstacle:  # frames of the same series in another form are a part of it
            suspects |= {one.filename: FRAMES for one in groups.get((uid, FRAMES), {}).values()}
        found.append(Series(uid, tuple(group.values()), obstacle, suspects))
    return sorted(found, key=_rank)


def unreadable_files(reasons: Mapping[str, str]) -> str:
    """One sentence about slices that cannot be read, by path."""
    files = [f"{path} ({reason})" for path, reason in reasons.items()]
    more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
    return f"DICOM file {', '.join(files[:3])}{more} cannot be read; {AGAIN}, or take it out of the folder."


def _identity(header: Header, group: dict[str, Header]) -> str:
    """Equal for copies of one image. A faulty export may give one UID, or none, to different images."""
    uid = header.get("SOPInstanceUID")
    identity = f"{uid} {header.get('ImagePositionPatient')}"
    alike = [header, group[identity]] if identity in group else []
    pixels = {Path(one.filename).read_bytes()[one.pixel_start :] for one in alike}
    return str(header.filename) if not uid or len(pixels) > 1 else identity


def choose_series(found: Sequence[Series], wanted: str | int | None, folder: str) -> Series:
    """Choose the series with this UID or place in the list, from 1 on; None: the only one that may be a volume.

    Of several series that could be meant none is chosen, which is a ValueError that lists them: another contrast phase
    segmented in place of the scan that was meant would not be noticed.
    """
    listed = listing(found)
    if wanted is not None:
        for place, series in enumerate(found, start=1):
            if str(wanted) in (series.uid, str(place)) and not series.obstacle:
                return series
        problem = f"folder {folder} has no CT series '{wanted}'"
        raise ValueError(f"{problem}; give the number or the UID of one of these:\n{listed}")
    candidates = [series for series in found if not series.obstacle]
    if not candidates:
        raise ValueError(f"folder {folder} holds DICOM files, but no CT series that can be a volume:\n{listed}")
    if len(candidates) > 1:
        many = f"folder {folder} holds {len(candidates)} CT series, expected one. Add `--series NUMBER` (or its UID)"
        raise ValueError(f"{many}, give its folder, or move each series to a folder of its own.\n{listed}")
    return candidates[0]


def listing(found: Sequence[Series]) -> str:
    """The series, one numbered line each."""
    return "\n".join(f"  {place}: {series}" for place, series in enumerate(found, start=1))


def _obstacle(header: Header) -> str:
    if header.SOPClassUID == ENHANCED_CT_IMAGE or int(header.get("NumberOfFrames") or 1) > 1:
        return FRAMES
    if header.SOPClassUID != CT_IMAGE:
        return f"no CT image but {header.SOPClassUID.name}"
    return "localizer" if "LOCALIZER" in header.get("ImageType", []) else ""


def _rank(series: Series) -> tuple[bool, int, str]:
    number = str(series.headers[0].get("SeriesNumber") or "").strip()
    return bool(series.obstacle), int(number) if number.isdecimal() else 0, series.uid
