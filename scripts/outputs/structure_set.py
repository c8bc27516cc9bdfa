"""A label map as RTSTRUCT (DICOM-RT structure set): contours on the slices of the series that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from scripts.dicom.contours import Points, contours_of
from scripts.dicom.headers import Header, pydicom
from scripts.dicom.organ_codes import codes, organ_code
from scripts.dicom.referred_images import EMPTY_IF_UNKNOWN, images_of_labels
from scripts.dicom.slice_numbers import SliceNumbers
from scripts.dicom.structure_files import STRUCTURE_SET
from scripts.drawing.overlay import organ_colour
from scripts.files.atomic_write import replacing
from scripts.files.bundle_identity import bundle_identity
from scripts.outputs.dicom_segmentation import SERIES_NUMBER, SaveOnSeriesd

STUDY = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which stands for "the study" here
NOTICE = "Found automatically; research only"


def write_structure_set(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], series: str, organs: Sequence[str], path: Path
) -> None:
    """Write an RTSTRUCT file, whole or not at all; the number of an ROI is the class index of its organ.

    Every organ has an ROI; one that was not found has no contours.

    Args:
        labels: label map [column, row, slice].
        affine: its 4 x 4 matrix from voxel indices to mm (RAS).
        series: folder of the DICOM series that was segmented.
        organs: organ names in the order of their class indices.
        path: the file to write.

    Raises:
        ValueError: the label map is not on the grid of the series.
    """
    stack, images = images_of_labels(labels, affine, series, path)
    content = _general(images)
    content.ReferencedFrameOfReferenceSequence = [_references(images)]
    numbered = list(enumerate(organs, start=1))
    content.StructureSetROISequence = [_roi(index, organ, content) for index, organ in numbered]
    content.ROIContourSequence = [_contours(labels == index, index, stack.numbers, images) for index, _ in numbered]
    content.RTROIObservationsSequence = [_observation(index, organ) for index, organ in numbered]
    with replacing(path) as temporary:
        # Implicit: explicit encodings have no room for contours of more than 64 KiB.
        content.save_as(temporary, implicit_vr=True, little_endian=True, enforce_file_format=True)


def _general(images: Sequence[Header]) -> Header:
    """Patient, study, frame of reference, equipment, and what the structure set is called."""
    bundle, now = bundle_identity(), datetime.now()
    content = pydicom.Dataset()
    for name in ("SpecificCharacterSet", *EMPTY_IF_UNKNOWN, "StudyInstanceUID", "FrameOfReferenceUID"):
        if name in images[0]:
            content[name] = images[0][name]
    content.SOPClassUID, content.SOPInstanceUID = STRUCTURE_SET, pydicom.uid.generate_uid()
    content.SeriesInstanceUID, content.InstanceNumber = pydicom.uid.generate_uid(), 1
    content.Modality, content.SeriesNumber, content.OperatorsName = "RTSTRUCT", SERIES_NUMBER + 1, ""
    content.SeriesDescription = "Organs found automatically (research only)"
    content.PositionReferenceIndicator = ""
    content.Manufacturer = content.ManufacturerModelName = bundle.name
    content.SoftwareVersions = bundle.version
    content.StructureSetLabel, content.StructureSetDescription = "ORGANS", NOTICE
    content.StructureSetDate, content.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    content.ApprovalStatus = "UNAPPROVED"
    return content


def _references(images: Sequence[Header]) -> Header:
    """Frame of reference, study, series and every slice."""
    series = pydicom.Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = images[0].SeriesInstanceUID, list(map(_reference, images))
    study = pydicom.Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY, images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = pydicom.Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = images[0].FrameOfReferenceUID, [study]
    return frame


def _reference(image: Header) -> Header:
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _roi(index: int, organ: str, content: Header) -> Header:
    roi = pydicom.Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIDescription = index, organ.replace("_", " "), NOTICE
    roi.ReferencedFrameOfReferenceUID = content.FrameOfReferenceUID
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    return roi


def _contours(organ: NDArray[np.bool_], index: int, slices: Sequence[SliceNumbers], images: Sequence[Header]) -> Header:
    found = pydicom.Dataset()
    found.ReferencedROINumber = index
    found.ROIDisplayColor = [round(255 * value) for value in to_rgb(organ_colour(index))]
    drawn = [
        _contour(points, slices[int(k)], images[int(k)])
        for k in np.flatnonzero(organ.any(axis=(0, 1)))
        for points in contours_of(organ[:, :, k])
    ]
    for number, contour in enumerate(drawn, start=1):
        contour.ContourNumber = number
    if drawn:
        found.ContourSequence = drawn
    return found


def _contour(points: Points, plane: SliceNumbers, image: Header) -> Header:
    """A contour of pixel indices on the plane of its slice, mm (LPS)."""
    height, width = plane.spacing
    places = plane.position + points * [width, height] @ plane.orientation
    contour = pydicom.Dataset()
    contour.ContourImageSequence = [_reference(image)]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    text = "\\".join(f"{value:.4f}" for value in places.ravel()).encode()
    # Its bytes, since pydicom takes minutes to check a million numbers; an implicit encoding names no kind of value.
    contour.add_new(pydicom.datadict.tag_for_keyword("ContourData"), "UN", text + b" " * (len(text) % 2))
    return contour


def _observation(index: int, organ: str) -> Header:
    """What an ROI is: an organ, with the codes that the DICOM-SEG gives it."""
    structure, side = organ_code(organ)
    observation = pydicom.Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = index
    observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
    observation.SegmentedPropertyCategoryCodeSequence = [_code(codes.SCT.AnatomicalStructure)]
    observation.RTROIIdentificationCodeSequence = [_code(structure)]
    if side is not None:
        modifier = _code(side)
        observation.RTROIIdentificationCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return observation


def _code(concept: Any) -> Header:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
        concept.value,
        concept.scheme_designator,
        concept.meaning,
    )
    return code


class SaveStructureSetd(SaveOnSeriesd):
    """Write `<case>_rtstruct.dcm`; see :class:`scripts.outputs.dicom_segmentation.SaveOnSeriesd`."""

    kinds = ("rtstruct",)
    name = "RTSTRUCT"
    write = staticmethod(write_structure_set)
