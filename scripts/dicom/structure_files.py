"""Which RTSTRUCT and DICOM-SEG files lie in a folder, and to which series they refer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.dicom.headers import Header, headers_below, pydicom
from scripts.dicom.series import unreadable_files
from scripts.files.result_files import results_in

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # of segments, of label values
REFERENCES = ("ReferencedFrameOfReferenceSequence", "ReferencedSeriesSequence", "FrameOfReferenceUID")
LABELS = ("StructureSetLabel", "ContentLabel", "SeriesDescription")
DATES = (("StructureSetDate", "StructureSetTime"), ("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"))
IMAGE, STUDIES = "ReferencedSOPInstanceUID", "RTReferencedStudySequence"
"""UID of an image, or, in items of that sequence, of a study."""


@dataclass(frozen=True)
class StructureFile:
    """An RTSTRUCT or DICOM-SEG file and what it refers to.

    Attributes:
        path: the file.
        labels: what it is called, in small letters.
        made: date and time; empty if it does not say.
        series, images, frames: UIDs of series, of images and of frames of reference that it names.
    """

    path: str
    labels: tuple[str, ...]
    made: str
    series: set[str]
    images: set[str]
    frames: set[str]

    def is_of(self, headers: Sequence[Header]) -> bool:
        """Whether it belongs to a series: it names it or an image of it, or names neither and shares its frame."""
        if self.series or self.images:
            return headers[0].get("SeriesInstanceUID") in self.series or any(
                header.get("SOPInstanceUID") in self.images for header in headers
            )
        return headers[0].get("FrameOfReferenceUID") in self.frames


def find_structure_files(place: str, results: bool = True) -> list[StructureFile]:
    """List the RTSTRUCT and DICOM-SEG files below a folder, or the one file that a path names.

    Those that this bundle wrote are passed over in a folder unless `results` are wanted.

    Raises:
        ValueError: a DICOM file there cannot be read.
    """
    if Path(place).is_file():
        return [_structure_file(place)]
    headers, unreadable = headers_below(place)
    if unreadable:
        raise ValueError(unreadable_files(unreadable))
    wanted = [Path(header.filename) for header in headers if header.SOPClassUID in (STRUCTURE_SET, *SEGMENTATIONS)]
    return [_structure_file(str(path)) for path in wanted if results or not results_in(path.parent, [path.name])]


def _structure_file(path: str) -> StructureFile:
    tags = [*REFERENCES, *LABELS, *(tag for pair in DATES for tag in pair)]
    content = pydicom.dcmread(path, specific_tags=tags, force=True)
    labels = tuple(str(content[tag].value).strip().lower() for tag in LABELS if content.get(tag))
    made = (f"{content.get(day) or ''}{content.get(time) or ''}" for day, time in DATES)
    uids, studies = defaultdict(set), set()
    for element in content.iterall():
        if element.VR == "UI" and element.value:
            uids[element.keyword].add(str(element.value))
        elif element.keyword == STUDIES:
            studies |= {str(study.get(IMAGE)) for study in element.value}
    series, images, frames = (uids[keyword] for keyword in ("SeriesInstanceUID", IMAGE, "FrameOfReferenceUID"))
    return StructureFile(path, labels, next(filter(None, made), ""), series, images - studies, frames)
