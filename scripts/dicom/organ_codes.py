"""SNOMED CT codes of organs, which DICOM asks for beside a segment's name."""

from __future__ import annotations

from typing import Any

from monai.utils.module import optional_import

codes, _ = optional_import("pydicom.sr.codedict", name="codes")

SIDES = {"left": "Left", "right": "Right"}
OTHER_WORDS = {
    "brainstem": "BrainStem",
    "urinary_bladder": "Bladder",
    "parotid": "ParotidGland",
    "thyroid_gland": "Thyroid",
    "eye_globe": "Eyeball",
    "portal_and_splenic_veins": "Vein",  # no code for the two together
}
"""Organs whose SNOMED name in pydicom's dictionary is not their own name in capitals."""


def organ_code(organ: str) -> tuple[Any, Any | None]:
    """Find the code of an organ's structure, and that of its side if its name has one.

    An organ that is not in the dictionary gets the code of any anatomical structure; the segment's label names it.

    Example: ``right_kidney`` -> (64033007 Kidney, 24028007 Right).
    """
    words = organ.lower().split("_")
    sides = [SIDES[word] for word in words if word in SIDES]
    name = "_".join(word for word in words if word not in SIDES)
    keyword = OTHER_WORDS.get(name) or "".join(word.capitalize() for word in name.split("_"))
    structure = getattr(codes.SCT, keyword, codes.SCT.AnatomicalStructure)
    return structure, getattr(codes.SCT, sides[0]) if len(sides) == 1 else None
