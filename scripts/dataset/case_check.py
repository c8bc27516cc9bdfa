"""The checks of one case: what its image and its label must be before anything is trained on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.dataset.label_values import values_of
from scripts.dataset.problems import Kind, Problem
from scripts.dataset.volume_file import VolumeFile, read_volume_file, voxel_hash

# Bounds outside of which a voxel size is a mistake (our choice): clinical CT lies within 0.2 and 10 mm, a spacing in
# metres or one of 0 falls below, one in micrometres above.
MIN_SPACING = 0.05
MAX_SPACING = 20.0
# Relative difference between the two places of a NIfTI header that give the spacing (float32 rounding stays below).
SPACING_TOLERANCE = 1e-2
# Distance in mm by which a corner of the label may miss that of its image: what rounding to float32 leaves.
CORNER_TOLERANCE = 1e-2

INT16_MIN, INT16_MAX = -32768, 32767
# Intensities that no CT in HU has (our choice): normalised to about [0, 1], or rescaled to 8 bit.
NORMALISED_MAX = 2
EIGHT_BIT_MAX = 255
# A scan that shows anything around the body has air near -1000 HU; one without may have been stored as HU + 1024.
HOUNSFIELD_NO_AIR = -100
HOUNSFIELD_BONE = 300


@dataclass
class CaseFindings:
    """What the check of one case found.

    Attributes:
        problems: reasons to refuse the dataset.
        warnings: oddities that can be right.
        organ_voxels: voxels of each organ that the case is annotated for; empty if unlabelled or unreadable.
        image_hash: hash of the image's voxels, None if it cannot be read.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    organ_voxels: dict[str, int] = field(default_factory=dict)
    image_hash: str | None = None


def check_case(case: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str] = ()) -> CaseFindings:
    """Read image and label of a case and check both; never raises for what a file holds.

    Args:
        case: a case of ``scripts.dataset.datalists.load_cases``.
        organs: organs of the config.
        phases: contrast phases of the config; empty means that phases are not used.
    """
    findings = CaseFindings()
    _check_entry(case, organs, phases, findings)
    image = _read(case["image"], findings)
    if image is not None and _is_volume(image, case["image"], findings):
        _check_spacing(image, case["image"], findings)
        _check_intensities(image.voxels, case["image"], findings)
        findings.image_hash = voxel_hash(image.voxels)
        if not image.oriented:
            findings.warnings.append(Problem(Kind.NO_ORIENTATION, case["image"]))
    path = case.get("label")
    label = _read(path, findings) if path else None
    if path and label is not None and _is_volume(label, path, findings):
        if image is not None and image.voxels.ndim == 3:
            _check_same_grid(image, label, path, findings)
        _check_label_values(label.voxels, case, findings)
    return findings


def _check_entry(case: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str], findings: CaseFindings) -> None:
    listed = {*case.get("annotated", ()), *case.get("label_values", ())}
    unknown = sorted(listed - set(organs))
    if unknown:
        findings.problems.append(Problem(Kind.UNKNOWN_ORGAN, case["image"], ", ".join(unknown)))
    if phases and case.get("phase") not in phases:
        found = f"phase is {case.get('phase')!r}, expected one of: {', '.join(phases)}"
        findings.problems.append(Problem(Kind.PHASE, case["image"], found))


def _read(path: str, findings: CaseFindings) -> VolumeFile | None:
    if not os.path.exists(path):
        findings.problems.append(Problem(Kind.MISSING_FILE, path))
        return None
    try:
        return read_volume_file(path)
    # Readers raise many kinds of exception for broken bytes, and the other files are still to be checked.
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [""]
        findings.problems.append(Problem(Kind.UNREADABLE, path, f"{type(error).__name__}: {reason[0][:200]}"))
        return None


def _is_volume(volume: VolumeFile, path: str, findings: CaseFindings) -> bool:
    voxels = volume.voxels
    if voxels.dtype.kind in "biuf" and voxels.ndim == 3 and voxels.size:
        return True
    kind = {"V": "RGB", "c": "complex"}.get(voxels.dtype.kind, "greyscale")
    found = f"{kind} with shape {voxels.shape}, expected three axes of one channel"
    findings.problems.append(Problem(Kind.NOT_A_VOLUME, path, found))
    return False


def _check_spacing(volume: VolumeFile, path: str, findings: CaseFindings) -> None:
    stored, spacing = np.asarray(volume.header_spacing), volume.spacing
    shown = " x ".join(f"{size:.4g}" for size in stored)
    by_affine = " x ".join(f"{size:.4g}" for size in spacing)
    within = (np.minimum(stored, spacing) >= MIN_SPACING).all() and (np.maximum(stored, spacing) <= MAX_SPACING).all()
    if not within:
        found = f"{shown} mm (by the affine {by_affine} mm), expected {MIN_SPACING:g} to {MAX_SPACING:g} mm"
        findings.problems.append(Problem(Kind.SPACING, path, found))
    elif not np.allclose(stored, spacing, rtol=SPACING_TOLERANCE, atol=0):
        found = f"pixdim says {shown} mm but the affine {by_affine} mm, expected the same"
        findings.problems.append(Problem(Kind.SPACING, path, found))


def _check_intensities(voxels: NDArray[Any], path: str, findings: CaseFindings) -> None:
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        found = f"{np.count_nonzero(~np.isfinite(voxels))} of {voxels.size} voxels"
        findings.problems.append(Problem(Kind.NOT_FINITE, path, found))
        return
    reason = ""
    if low < INT16_MIN or high > INT16_MAX:
        reason = "beyond 16 bit"
    elif high <= NORMALISED_MAX:
        reason = "normalised, or empty"
    elif low >= 0 and high <= EIGHT_BIT_MAX:
        reason = "8 bit, or a label map"
    if reason:
        found = f"values {low:g} to {high:g} ({reason}), expected about -1000 (air) to 1000 and more (bone)"
        findings.problems.append(Problem(Kind.NOT_HU, path, found))
    elif low >= HOUNSFIELD_NO_AIR and high > HOUNSFIELD_BONE:
        findings.warnings.append(Problem(Kind.NO_AIR, path, f"values {low:g} to {high:g} HU"))


def _check_same_grid(image: VolumeFile, label: VolumeFile, path: str, findings: CaseFindings) -> None:
    shape, expected = label.voxels.shape, image.voxels.shape
    if shape != expected:
        findings.problems.append(Problem(Kind.GRID, path, f"shape {shape}, expected the image's {expected}"))
        return
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))], dtype=np.float64)
    distance = np.linalg.norm(corners @ (label.affine - image.affine).T, axis=1).max()
    # Negated, so that a NaN in either affine is refused as well.
    if not distance <= CORNER_TOLERANCE:
        found = f"affine puts a corner {distance:.3g} mm from the image's, expected within {CORNER_TOLERANCE:g} mm"
        findings.problems.append(Problem(Kind.GRID, path, found))


def _check_label_values(voxels: NDArray[Any], case: Mapping[str, Any], findings: CaseFindings) -> None:
    path = case["label"]
    odd = voxels[~np.isfinite(voxels) | (np.rint(voxels) != voxels)] if voxels.dtype.kind == "f" else np.empty(0)
    if odd.size:
        found = f"{odd.size} voxels, such as {odd[0]:g}"
        findings.problems.append(Problem(Kind.NOT_INTEGER, path, found))
        return
    values, counts = np.unique(_narrowed(voxels), return_counts=True)
    voxels_of = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    organ_values = {organ: values_of(value) for organ, value in case["label_values"].items()}
    known = {0, *chain.from_iterable(organ_values.values()), *case.get("known_values", ())}
    unknown = sorted(set(voxels_of) - known)
    if unknown:
        found = f"{', '.join(map(str, unknown[:10]))}, expected among: {', '.join(map(str, sorted(known)))}"
        findings.problems.append(Problem(Kind.UNKNOWN_VALUE, path, found))
    present = {organ: sum(voxels_of.get(value, 0) for value in own) for organ, own in organ_values.items()}
    annotated = case["annotated"]
    findings.organ_voxels = {organ: present[organ] for organ in annotated if organ in present}
    # Any organ of the dataset will do: the scan may end before those of the config, and was contoured all the same.
    if annotated and not known & set(voxels_of) - {0}:
        found = f"no voxel of any organ, annotated for: {', '.join(annotated)}"
        findings.problems.append(Problem(Kind.NO_CONTOUR, path, found))
    stray = [organ for organ, count in present.items() if count and organ not in annotated]
    if stray:
        findings.warnings.append(Problem(Kind.NOT_ANNOTATED, path, ", ".join(stray)))


def _narrowed(voxels: NDArray[Any]) -> NDArray[Any]:
    """Integers in 16 bit where they fit: numpy sorts these several times faster than wider ones or floats."""
    fits = voxels.min() >= INT16_MIN and voxels.max() <= INT16_MAX
    return voxels.astype(np.int16) if fits and voxels.dtype.itemsize > 2 else voxels
