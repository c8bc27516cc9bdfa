"""A label map as RTSTRUCT (DICOM-RT structure set): contours on the slices of the series that it was made from."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.dicom.contours import Points, contours_of
from scripts.dicom.headers import Header, pydicom
from scripts.dicom.referred_images import EMPTY_IF_UNKNOWN, UNICODE, images_of_labels
from scripts.dicom.slice_numbers import SliceNumbers
from scripts.dicom.structure_reader import STRUCTURE_SET
from scripts.files.atomic_write import replacing
from scripts.files.result_files import bundle_identity
from scripts.outputs import dicom_segmentation

STUDY = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which stands for "the study" here


def write_structure_set(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    series: str,
    organs: Sequence[str],
    path: Path,
    classes: Sequence[int] | None = None,
    estimated_dice: Mapping[str, float] | None = None,
) -> None:
    """Write an RTSTRUCT file, whole or not at all; the number of an ROI is the class index of its organ.

    Every organ of `classes` has an ROI, without contours if it was not found. Arguments, errors: `write_segmentation`.
    """
    stack, images = images_of_labels(labels, affine, series, path)
    content = _general(images)
    content.ReferencedFrameOfReferenceSequence = [_references(images)]
    content.StructureSetROISequence, content.ROIContourSequence, content.RTROIObservationsSequence = [], [], []
    for index in classes or range(1, len(organs) + 1):
        organ = organs[index - 1]
        notice = dicom_segmentation.described(organ, estimated_dice)
        roi = _item(ROINumber=index, ROIName=organ.replace("_", " "), ROIDescription=notice)
        roi.ReferencedFrameOfReferenceUID, roi.ROIGenerationAlgorithm = content.FrameOfReferenceUID, "AUTOMATIC"
        content.StructureSetROISequence.append(roi)
        content.ROIContourSequence.append(_contours(labels == index, index, stack.numbers, images))
        content.RTROIObservationsSequence.append(_observation(index, organ))
    with replacing(path) as temporary:
        # Implicit: explicit encodings have no room for contours of more than 64 KiB.
        content.save_as(temporary, implicit_vr=True, little_endian=True, enforce_file_format=True)


def _item(**values: Any) -> Header:
    item = pydicom.Dataset()
    item.update(values)
    return item


def _general(images: Sequence[Header]) -> Header:
    """Patient, study, frame of reference, equipment, and what the structure set is called."""
    bundle, now = bundle_identity(), datetime.now()
    content = _item(
        SpecificCharacterSet=UNICODE,
        SOPClassUID=STRUCTURE_SET,
        SOPInstanceUID=pydicom.uid.generate_uid(),
        SeriesInstanceUID=pydicom.uid.generate_uid(),
        SeriesNumber=dicom_segmentation.SERIES_NUMBER + 1,
        SeriesDescription=dicom_segmentation.SERIES_DESCRIPTION,
        Modality="RTSTRUCT",
        InstanceNumber=1,
        OperatorsName="",
        PositionReferenceIndicator="",
        Manufacturer=bundle.name,
        ManufacturerModelName=bundle.name,
        SoftwareVersions=bundle.version,
        StructureSetLabel="ORGANS",
        StructureSetDescription=dicom_segmentation.NOTICE,
        StructureSetDate=f"{now:%Y%m%d}",
        StructureSetTime=f"{now:%H%M%S}",
        ApprovalStatus="UNAPPROVED",
    )
    for name in (*EMPTY_IF_UNKNOWN, "StudyInstanceUID", "FrameOfReferenceUID"):
        if name in images[0]:
            content[name] = images[0][name]
    return content


def _references(images: Sequence[Header]) -> Header:
    """Frame of reference, study, series and every slice."""
    first = images[0]
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=list(map(_reference, images)))
    study = _item(ReferencedSOPClassUID=STUDY, ReferencedSOPInstanceUID=first.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    return _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _reference(image: Header) -> Header:
    return _item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)


def _contours(organ: NDArray[np.bool_], index: int, slices: Sequence[SliceNumbers], images: Sequence[Header]) -> Header:
    found = _item(ReferencedROINumber=index, ROIDisplayColor=dicom_segmentation.organ_rgb(index))
    drawn = [
        _contour(points, slices[k], images[k])
        for k in np.flatnonzero(organ.any(axis=(0, 1))).tolist()
        for points in contours_of(organ[:, :, k])
    ]
    for number, contour in enumerate(drawn, start=1):
        contour.ContourNumber = number
    if drawn:
        found.ContourSequence = drawn
    return found


def _contour(points: Points, plane: SliceNumbers, image: Header) -> Header:
    """A contour of pixel indices on the plane of its slice, mm (LPS)."""
    places = plane.position + points * plane.spacing[::-1] @ plane.orientation
    contour = _item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(points))
    contour.ContourImageSequence = [_reference(image)]
    text = "\\".join(f"{value:.4f}" for value in places.ravel()).encode()
    # Its bytes, since pydicom takes minutes to check a million numbers; an implicit encoding names no kind of value.
    contour.add_new(pydicom.datadict.tag_for_keyword("ContourData"), "UN", text + b" " * (len(text) % 2))
    return contour


def _observation(index: int, organ: str) -> Header:
    """What an ROI is: an organ, with the codes that the DICOM-SEG gives it."""
    structure, side = dicom_segmentation.organ_code(organ)
    code = _code(structure)
    if side is not None:
        code.SegmentedPropertyTypeModifierCodeSequence = [_code(side)]
    return _item(
        ObservationNumber=index,
        ReferencedROINumber=index,
        RTROIInterpretedType="ORGAN",
        ROIInterpreter="",
        RTROIIdentificationCodeSequence=[code],
        SegmentedPropertyCategoryCodeSequence=[_code(dicom_segmentation.codes.SCT.AnatomicalStructure)],
    )


def _code(concept: Any) -> Header:
    return _item(CodeValue=concept.value, CodingSchemeDesignator=concept.scheme_designator, CodeMeaning=concept.meaning)


class SaveStructureSetd(dicom_segmentation.SaveOnSeriesd):
    """Write `<case>_rtstruct.dcm`, with the arguments of :class:`SaveOnSeriesd`."""

    kinds = ("rtstruct",)
    name = "RTSTRUCT"
    write = staticmethod(write_structure_set)
