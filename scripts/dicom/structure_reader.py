"""Structures of RTSTRUCT and DICOM-SEG files: which files refer to a series, and their voxels on its grid."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils.module import optional_import
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, distance_transform_edt

from scripts.dicom.contours import Points, filled
from scripts.dicom.headers import Header, headers_below, pydicom
from scripts.dicom.series import unreadable_files
from scripts.dicom.slice_stack import PLACE_TOLERANCE, TO_RAS, SliceStack
from scripts.files.result_files import bundle_identity

hd, _ = optional_import("highdicom")
logger = logging.getLogger(__name__)

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # of segments, of label values
REFERENCES = ("ReferencedFrameOfReferenceSequence", "ReferencedSeriesSequence", "FrameOfReferenceUID")
LABELS = ("StructureSetLabel", "ContentLabel", "SeriesDescription")
DATES = (("StructureSetDate", "StructureSetTime"), ("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"))
IMAGE, STUDIES = "ReferencedSOPInstanceUID", "RTReferencedStudySequence"
"""UID of an image, or, in items of that sequence, of a study."""
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")  # contours around something; points and open lines are marks
WIDEST_GAP = 1.5
"""Times the usual distance of contours over which a shape is interpolated; our choice: wider gaps are on purpose."""


@dataclass(frozen=True)
class StructureFile:
    """An RTSTRUCT or DICOM-SEG file and what it refers to."""

    path: str
    labels: tuple[str, ...]  # what it is called, in small letters
    made: str  # date and time; empty if it does not say
    series: set[str]  # UIDs of series, of images and of frames of reference that it names
    images: set[str]
    frames: set[str]

    def is_of(self, headers: Sequence[Header]) -> bool:
        """Whether it belongs to a series: it names it or an image of it, or names neither and shares its frame."""
        first, images = headers[0], {header.get("SOPInstanceUID") for header in headers}
        if self.series or self.images:
            return first.get("SeriesInstanceUID") in self.series or not self.images.isdisjoint(images)
        return first.get("FrameOfReferenceUID") in self.frames


def find_structure_files(place: str, results: bool = True) -> list[StructureFile]:
    """List the RTSTRUCT and DICOM-SEG files below a folder (this bundle's only if `results`), or the one at a path."""
    if Path(place).is_file():
        return [_structure_file(place)]
    headers, unreadable = headers_below(place)
    if unreadable:
        raise ValueError(unreadable_files(unreadable))
    wanted = [header for header in headers if header.SOPClassUID in (STRUCTURE_SET, *SEGMENTATIONS)]
    ours = bundle_identity().name
    found = [_structure_file(one.filename) for one in wanted if results or one.get("ManufacturerModelName") != ours]
    if len(found) < len(wanted):
        logger.warning("structure files that this bundle wrote do not count: %d", len(wanted) - len(found))
    return found


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


class Structures:
    """The structures of one RTSTRUCT or DICOM-SEG file."""

    def __init__(self, path: str) -> None:
        self.path, self.content = path, pydicom.dcmread(path, force=True)
        self.is_contours = self.content.SOPClassUID == STRUCTURE_SET
        rois = self.content.get("StructureSetROISequence", [])
        self.frames = {int(roi.ROINumber or 0): roi.get("ReferencedFrameOfReferenceUID") for roi in rois}
        if self.is_contours:
            listed = [(roi.ROINumber, roi.get("ROIName")) for roi in rois]
        else:
            listed = [(one.SegmentNumber, one.get("SegmentLabel")) for one in self.content.get("SegmentSequence", [])]
        self.names = {int(n or 0): str(name or "").strip() for n, name in listed if n or self.is_contours}
        """Number -> name, without the background that a DICOM-SEG of label values has."""
        if self.is_contours and len(self.names) < len(listed):
            raise ValueError(f"{path} gives one ROINumber to several structures: export it again, with one for each.")

    def region(self, number: int, stack: SliceStack) -> NDArray[np.bool_]:
        """Voxels [column, row, slice] of one structure; ValueError if it is damaged or not parallel to the slices."""
        try:
            if not self.is_contours:
                return self._segment(number, stack)
            contours = [
                contour
                for roi in self.content.get("ROIContourSequence", [])
                if roi.ReferencedROINumber == number
                for contour in roi.get("ContourSequence", [])
                if contour.get("ContourGeometricType") in CLOSED
                and "ContourData" in contour
                and contour.get_item("ContourData").value  # an empty one is nothing
            ]
            return _stacked([_on_grid(contour, stack) for contour in contours], stack.shape)
        except (ValueError, AttributeError, LookupError, OSError, RuntimeError) as error:  # what parsers raise
            how = "export it again on the slices of this series, as RTSTRUCT or binary DICOM-SEG."
            raise ValueError(f"structure '{self.names[number]}' of {self.path} is not read ({error}): {how}") from None

    def _segment(self, number: int, stack: SliceStack) -> NDArray[np.bool_]:
        """Nearest voxels of a segment, whatever the order and number of its frames."""
        volume = hd.seg.segread(self.path).get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        to_volume = np.linalg.inv(volume.affine) @ TO_RAS @ stack.affine
        nearest = affine_transform(volume.array, to_volume, output_shape=stack.shape, order=0, mode="grid-constant")
        return np.asarray(nearest > 0)


def _on_grid(contour: Header, stack: SliceStack) -> tuple[float, Points, bool]:
    """Height in slices and corners in pixels of a contour, and whether it is to be combined by exclusive or."""
    text: Any = contour.get_item("ContourData").value  # its bytes: pydicom's numbers take minutes
    places = np.array(text.strip(b" \0").split(b"\\"), dtype=float).reshape(-1, 3)
    to_index = np.linalg.inv(TO_RAS @ stack.affine)
    index = places @ to_index[:3, :3].T + to_index[:3, 3]
    if not np.ptp(index[:, 2]) <= 2 * PLACE_TOLERANCE:  # negated, so that a NaN is refused as well
        raise ValueError("its contours are not parallel to the slices")
    return float(index[:, 2].mean()), index[:, :2], contour.ContourGeometricType == CLOSED[1]


def _stacked(contours: list[tuple[float, Points, bool]], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Slices from contours at any height: those on a slice as they are, others by the shape between their planes."""
    planes: list[tuple[float, list[tuple[Points, bool]]]] = []
    for height, points, exclusive in sorted(contours, key=lambda one: one[0]):
        if not planes or height - planes[-1][0] > PLACE_TOLERANCE:
            planes.append((height, []))
        planes[-1][1].append((points, exclusive))
    region = np.zeros(shape, dtype=bool)
    if not planes:
        return region
    heights = np.array([height for height, _ in planes])
    regions = [_in_plane(drawn, shape[:2]) for _, drawn in planes]
    gaps = np.diff(heights)  # two planes alone, more than two slices apart, are two pieces
    usual = float(np.quantile(gaps, 0.5, method="lower")) if len(gaps) > 1 or (gaps < 2.1).any() else 1.0
    for k in range(shape[2]):
        nearest = int(np.argmin(np.abs(heights - k)))
        above = int(np.searchsorted(heights, k))
        if abs(heights[nearest] - k) <= PLACE_TOLERANCE:
            region[:, :, k] = regions[nearest]
        elif 0 < above < len(heights) and heights[above] - heights[above - 1] <= WIDEST_GAP * usual:
            share = (k - heights[above - 1]) / (heights[above] - heights[above - 1])
            region[:, :, k] = _between(regions[above - 1], regions[above], share)
        elif -usual / 2 <= k - heights[nearest] < usual / 2:
            region[:, :, k] = regions[nearest]
    return region


def _in_plane(drawn: list[tuple[Points, bool]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Union of the contours of a plane; one that lies within others is a hole, and the same one twice counts once."""
    plane = np.zeros(shape, dtype=bool)
    seen: list[NDArray[np.bool_]] = []
    for region, exclusive in sorted(((filled(one, shape), xor) for one, xor in drawn), key=lambda one: -one[0].sum()):
        if exclusive or (not any(np.array_equal(region, other) for other in seen) and plane[region].all()):
            plane ^= region
        else:
            plane |= region
        seen.append(region)
    return plane


def _between(one: NDArray[np.bool_], other: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The shape at a share of the way from one plane to the next, by signed distances to their contours."""
    if not (one.any() and other.any()) or one.all() or other.all():  # a full slice has no contour to be far from
        return one if share < 0.5 else other
    inside, outside = (
        (1 - share) * distance_transform_edt(first) + share * distance_transform_edt(second)
        for first, second in ((one, other), (~one, ~other))
    )
    return np.asarray(inside > outside)
