"""The checks of one photograph and its mask: what PASCAL VOC means by an image and a segmentation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from monai.utils.module import optional_import
from numpy.typing import NDArray

from scripts.dataset.case_check import CaseFindings
from scripts.dataset.label_values import values_of
from scripts.dataset.layouts.voc import voc_colours
from scripts.dataset.problems import Kind, Problem
from scripts.dataset.volume_file import voxel_hash

pillow, _ = optional_import("PIL.Image")


def check_photograph(case: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str] = ()) -> CaseFindings:
    """Read photograph and mask of a case and check both; never raises for what a file holds.

    Args:
        case: a case of ``scripts.dataset.datalists.load_cases``.
        organs: classes of the config.
        phases: not used, photographs have none.
    """
    findings = CaseFindings()
    image = _read(case["image"], findings)
    if image is not None:
        if image.mode != "RGB":
            findings.problems.append(Problem(Kind.NOT_RGB, case["image"], f"mode {image.mode}, expected RGB"))
        findings.image_hash = voxel_hash(np.atleast_3d(np.asarray(image)))
    path = case.get("label")
    mask = _read(path, findings) if path else None
    if path and mask is not None:
        if image is not None and image.size != mask.size:
            width, height = image.size
            found = f"{mask.size[0]} x {mask.size[1]} pixels, expected the photograph's {width} x {height}"
            findings.problems.append(Problem(Kind.GRID, path, found))
        _check_mask(mask, case, findings)
    return findings


def _read(path: str, findings: CaseFindings) -> Any:
    if not os.path.exists(path):
        findings.problems.append(Problem(Kind.MISSING_FILE, path))
        return None
    try:
        with pillow.open(path) as image:
            image.load()
            return image
    # Readers raise many kinds of exception for broken bytes, and the other files are still to be checked.
    except Exception as error:
        findings.problems.append(Problem(Kind.UNREADABLE, path, f"{type(error).__name__}: {str(error)[:200]}"))
        return None


def _check_mask(mask: Any, case: Mapping[str, Any], findings: CaseFindings) -> None:
    path = case["label"]
    if mask.mode not in ("P", "L"):
        found = f"mode {mask.mode}, expected P (palette) or L (greyscale)"
        findings.problems.append(Problem(Kind.NOT_INDICES, path, found))
        return
    values, counts = np.unique(np.asarray(mask), return_counts=True)
    pixels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    of_organs = {organ: values_of(value) for organ, value in case["label_values"].items()}
    known = {0, case.get("ignored_value", 0), *case.get("known_values", ()), *chain(*of_organs.values())}
    unknown = sorted(set(pixels) - known)
    if unknown:
        found = f"{', '.join(map(str, unknown[:10]))}, expected among: {', '.join(map(str, sorted(known)))}"
        findings.problems.append(Problem(Kind.UNKNOWN_VALUE, path, found))
    elif case.get("voc_palette") and mask.mode == "P":
        _check_palette(mask, values, path, findings)
    present = {organ: sum(pixels.get(value, 0) for value in its_own) for organ, its_own in of_organs.items()}
    findings.organ_voxels = {organ: present[organ] for organ in case["annotated"] if organ in present}


def _check_palette(mask: Any, values: NDArray[Any], path: str, findings: CaseFindings) -> None:
    """An editor that saves a mask anew may renumber its colours: the colours tell."""
    palette, expected = mask.getpalette("RGB"), voc_colours()
    for value in values.tolist():
        colour = tuple(palette[3 * value : 3 * value + 3])
        if colour != expected[value]:
            found = f"index {value} has the colour {colour}, expected {expected[value]}"
            findings.problems.append(Problem(Kind.PALETTE, path, found))
            return
