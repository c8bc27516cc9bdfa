"""What cases must not share: one scan listed twice, one patient in two splits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.dataset.case_check import CaseFindings
from scripts.dataset.problems import Kind, Problem

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
