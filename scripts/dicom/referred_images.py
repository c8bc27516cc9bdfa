"""Headers of a series as results can refer to them: anonymisation leaves out or spoils what the standard wants."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils.module import optional_import
from numpy.typing import NDArray

from scripts.dicom.headers import Header, pydicom
from scripts.dicom.series_folder import stack_in
from scripts.dicom.slice_stack import SliceStack

valuerep, _ = optional_import("pydicom.valuerep")
logger = logging.getLogger(__name__)

EMPTY_IF_UNKNOWN = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""What the standard wants to be there, be it empty."""
SEXES = ("M", "F", "O")
OF_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
UNICODE = "ISO_IR 192"  # of the results, whose organs have names in any language


def images_of_labels(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], series: str, result: Path
) -> tuple[SliceStack, list[Header]]:
    """The slices of the series in a folder, and their headers for a result to refer to; ValueError: on another grid.

    In the headers, values against the standard are emptied and UIDs that lack are made, derived from the series and the
    place of the slice: a second result refers to the same ones. A warning names the changed attributes (values may be
    of a person) and the result. The label map is [column, row, slice], its affine leads to mm (RAS).
    """
    stack = stack_in(series)
    if labels.shape != stack.shape or not np.allclose(affine, stack.affine, atol=1e-2):
        shapes = f"the label map ({labels.shape}) is not on the grid of the DICOM series in {series} ({stack.shape})"
        raise ValueError(
            f"{shapes}, or its affine differs: give the label map of this series, in the order of its slices."
        )
    with pydicom.config.disable_value_validation():
        images = [pydicom.dcmread(one.filename, stop_before_pixels=True, force=True) for one in stack.headers]
        emptied = {name for image in images for name in _emptied(image)}
    made = _completed_uids(images)
    if any(image.get("SliceThickness") in (None, "") for image in images):
        made.append("SliceThickness")  # from their distance
        for image in images:
            image.SliceThickness = f"{np.linalg.norm(stack.affine[:3, 2]):.4f}"
    for what, names in {"emptied": sorted(emptied), "made": made}.items():
        if names:
            logger.warning("%s: in what it says of the series, %s %s", result.name, what, ", ".join(names))
    return stack, images


def _emptied(image: Header) -> set[str]:
    """Empty or leave out attributes with values against the standard; return their names."""
    changed = set()
    for tag in list(image.keys()):
        if tag.is_private:
            del image[tag]
        elif not _is_valid(image, tag):
            keyword = pydicom.datadict.keyword_for_tag(tag)
            changed.add(keyword or str(tag))
            del image[tag]
    if image.get("PatientSex") and image.PatientSex not in SEXES:
        image.PatientSex = ""
        changed.add("PatientSex")
    for name in EMPTY_IF_UNKNOWN:
        if name not in image:
            setattr(image, name, "")
    return changed


def _is_valid(dataset: Header, tag: Any) -> bool:
    try:
        element = dataset[tag]
        if element.VR == "SQ":
            return all(_is_valid(item, inner) for item in element.value for inner in item.keys())  # noqa: SIM118
        for value in element.value if element.VM > 1 else [element.value]:
            if element.VR in ("DS", "IS"):
                float(value or 0)
                continue
            valuerep.validate_value(element.VR, value, pydicom.config.RAISE)
            if element.VR in ("DA", "TM", "DT") and value:
                getattr(valuerep, element.VR)(str(value))
    except Exception:  # noqa: BLE001 values are wrong in as many ways as there are parsers
        return False
    return True


def _completed_uids(images: Sequence[Header]) -> list[str]:
    """Give all images one study, series and frame of reference, and each a UID of its own; return what was made."""
    made = []
    seed = "/".join(str(image.get("SOPInstanceUID") or image.ImagePositionPatient) for image in images)
    for name in OF_SERIES:
        known = _valid_uids(images, name)
        if len(known) < len(images) or len(set(known)) > 1:
            made.append(name)
        for image in images:
            setattr(image, name, known[0] if known else pydicom.uid.generate_uid(entropy_srcs=[name, seed]))
    if len(set(_valid_uids(images, "SOPInstanceUID"))) < len(images):
        made.append("SOPInstanceUID")
        for image in images:
            sources = [images[0].SeriesInstanceUID, str(image.ImagePositionPatient)]
            image.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=sources)
    return made


def _valid_uids(images: Sequence[Header], name: str) -> list[str]:
    return [uid for image in images if pydicom.uid.UID(uid := str(image.get(name) or "")).is_valid]
