"""Images of a series as another DICOM file can refer to them, whatever an anonymiser left of their headers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from scripts.dicom.headers import Header, pydicom

logger = logging.getLogger(__name__)

FORMS = {
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "PatientSex": "[MFO]",
    "PatientID": r"[^\\]{1,64}",
    "PatientName": r"[^\\]{1,200}",
    "StudyID": r"[^\\]{1,16}",
    "AccessionNumber": r"[^\\]{1,16}",
    "ReferringPhysicianName": r"[^\\]{1,200}",
}
"""How the standard writes what has to be there, be it empty (PS3.5, 6.2)."""
UIDS = ("StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
"""What ties a file to the images. The first two are those of all images."""
UID_FORM = r"[0-9.]{1,64}"
CHARACTER_SET = "SpecificCharacterSet"
UNICODE = "ISO_IR 192"


def referable_images(headers: Sequence[Header]) -> list[Any]:
    """Read the headers whole, and make of them what the standard asks for.

    Fields that may be empty and are no such value are emptied. Identifiers that are missing are made. What was changed
    is logged; the files stay as they are.
    """
    images = [pydicom.dcmread(header.filename, stop_before_pixels=True, force=True) for header in headers]
    changed: dict[str, str] = {}
    made = {name: str(pydicom.uid.generate_uid()) for name in UIDS[:2]}
    for image, header in zip(images, headers, strict=True):
        image.file_meta = header.file_meta
        _require_known_characters(image, changed)
        for name, form in FORMS.items():
            text = _text(image, name)
            if text is None or (text and not re.fullmatch(form, text)):
                setattr(image, name, "")
                changed[name] = "emptied"
        for name in UIDS:
            if not re.fullmatch(UID_FORM, _text(image, name) or ""):
                setattr(image, name, made.get(name) or pydicom.uid.generate_uid())
                changed[name] = "made anew"
    if changed:
        listed = ", ".join(f"{name} {how}" for name, how in sorted(changed.items()))
        logger.warning("the series has header fields against the standard; in the DICOM-SEG: %s", listed)
    return images


def _require_known_characters(image: Any, changed: dict[str, str]) -> None:
    """Take names for Unicode where the character set is none that the standard has."""
    names = image.get(CHARACTER_SET) or ""
    names = [names] if isinstance(names, str) else list(names)
    if all(name in pydicom.charset.python_encoding for name in names):
        return
    setattr(image, CHARACTER_SET, UNICODE)
    changed[CHARACTER_SET] = f"{UNICODE} instead of {names}"


def _text(image: Any, name: str) -> str | None:
    """A value as text; None if it is missing or cannot be decoded."""
    try:
        value = image.get(name)
        return None if value is None else str(value)
    except Exception:  # the parser may fail at any damaged value
        return None
