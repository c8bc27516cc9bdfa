"""The checks of one case: what its image and its label must be before anything is trained on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.dataset.label_values import values_of
from scripts.dataset.problems import Kind, Problem, VolumeError
from scripts.dataset.scan_rules import INT16_MAX, INT16_MIN, check_scan_arrays, other_grid
from scripts.dataset.volume_file import VolumeFile, read_volume_file, voxel_hash


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
    if image is not None:
        problems, warnings = check_scan_arrays(image.voxels, image.affine, case["image"], image.header_spacing)
        findings.problems += problems
        findings.warnings += image.warnings + warnings
        findings.image_hash = voxel_hash(image.voxels)
    path = case.get("label")
    label = _read(path, findings) if path else None
    if path and label is not None:
        if image is not None:
            difference = other_grid(label.voxels.shape, label.affine, image.voxels.shape, image.affine)
            findings.problems += [Problem(Kind.GRID, path, difference)] if difference else []
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
    try:
        return read_volume_file(path)
    except VolumeError as error:
        findings.problems.append(error.problem)
    except ValueError as error:  # a DICOM series that is no volume
        findings.problems.append(Problem(Kind.UNREADABLE, path, str(error)))
    return None


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


Splits = Mapping[str, Sequence[Mapping[str, Any]]]
Findings = Mapping[str, Sequence[CaseFindings]]


def duplicates(splits: Splits, findings: Findings) -> list[Problem]:
    """Cases whose image is the same file as an earlier case's, or a file with the same voxels."""
    problems = []
    first_by_path: dict[str, str] = {}
    first_by_hash: dict[str, str] = {}
    for split, cases in splits.items():
        for case, found in zip(cases, findings[split], strict=True):
            here = f"{case['image']} ({split})"
            same_file = first_by_path.setdefault(os.path.realpath(case["image"]), here)
            same_voxels = first_by_hash.setdefault(found.image_hash, here) if found.image_hash else here
            if same_file is not here:
                problems.append(Problem(Kind.DUPLICATE, here, f"the same file as {same_file}"))
            elif same_voxels is not here:
                problems.append(Problem(Kind.DUPLICATE, here, f"the same voxels as {same_voxels}"))
    return problems


def divided_patients(splits: Splits) -> list[Problem]:
    """Patients with scans in more than one split; cases that name no patient are left out."""
    splits_of: dict[str, dict[str, str]] = {}
    for split, cases in splits.items():
        for case in cases:
            if case.get("patient"):
                splits_of.setdefault(case["patient"], {}).setdefault(split, case["image"])
    return [
        Problem(Kind.PATIENT, patient, ", ".join(f"{image} ({split})" for split, image in where.items()))
        for patient, where in splits_of.items()
        if len(where) > 1
    ]
