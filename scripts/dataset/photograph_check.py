"""The checks of one photograph and its mask: what PASCAL VOC means by an image and a segmentation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils.module import optional_import

from scripts.dataset.case_check import CaseFindings, count_values
from scripts.dataset.layouts.voc import voc_colours
from scripts.dataset.problems import Kind
from scripts.dataset.volume_file import voxel_hash

pillow, _ = optional_import("PIL.Image")


def check_photograph(case: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str] = ()) -> CaseFindings:
    """Read photograph and mask of a case and check both; never raises for what a file holds.

    It is called like ``scripts.dataset.case_check.check_case``; photographs have no phases.
    """
    findings = CaseFindings()
    image = _read(case["image"], findings)
    if image is not None:
        if image.mode != "RGB":
            findings.refuse(Kind.NOT_RGB, case["image"], f"mode {image.mode}, expected RGB")
        findings.image_hash = voxel_hash(np.atleast_3d(np.asarray(image)))
    mask = _read(case["label"], findings) if case.get("label") else None
    if mask is not None:
        if image is not None and image.size != mask.size:
            width, height = image.size
            found = f"{mask.size[0]} x {mask.size[1]} pixels, expected the photograph's {width} x {height}"
            findings.refuse(Kind.GRID, case["label"], found)
        _check_mask(mask, case, findings)
    return findings


def _read(path: str, findings: CaseFindings) -> Any:
    if not os.path.exists(path):
        findings.refuse(Kind.MISSING_FILE, path)
        return None
    try:
        with pillow.open(path) as image:
            image.load()
            return image
    # Readers raise many kinds of exception for broken bytes, and the other files are still to be checked.
    except Exception as error:
        findings.refuse(Kind.UNREADABLE, path, f"{type(error).__name__}: {str(error)[:200]}")
        return None


def _check_mask(mask: Any, case: Mapping[str, Any], findings: CaseFindings) -> None:
    if mask.mode not in ("P", "L"):
        found = f"mode {mask.mode}, expected P (palette) or L (greyscale)"
        findings.refuse(Kind.NOT_INDICES, case["label"], found)
        return
    _, declared = count_values(np.asarray(mask), case, findings)
    if not case.get("voc_palette") or mask.mode != "P":
        return
    # An editor that saves a mask anew may renumber its colours: the colours tell.
    palette, expected = mask.getpalette("RGB"), voc_colours()
    for value in sorted(declared):
        colour = tuple(palette[3 * value : 3 * value + 3])
        if colour != expected[value]:
            found = f"index {value} has the colour {colour}, expected {expected[value]}"
            findings.refuse(Kind.PALETTE, case["label"], found)
            return
