"""What two cases of a dataset must not share; equal scans are in test_check.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_dataset import ORGANS, write_case

from scripts.dataset.check import check_dataset
from scripts.dataset.problems import DatasetError, Kind


def test_a_patient_in_two_splits_is_reported_with_both_scans(tmp_path: Path) -> None:
    training = [write_case(tmp_path, "a1", 1, patient="anna"), write_case(tmp_path, "b", 2)]
    validation = [write_case(tmp_path, "a2", 3, patient="anna"), write_case(tmp_path, "c", 4)]
    with pytest.raises(DatasetError) as caught:
        check_dataset({"training": training, "validation": validation}, ORGANS, progress=False)
    (problem,) = caught.value.problems
    assert problem.kind is Kind.PATIENT and problem.where == "anna"
    assert "a1.nii.gz (training)" in problem.found and "a2.nii.gz (validation)" in problem.found


def test_scans_of_one_patient_in_one_split_are_fine(tmp_path: Path) -> None:
    training = [write_case(tmp_path, name, seed, patient="anna") for seed, name in enumerate("ab")]
    check_dataset({"training": training}, ORGANS, progress=False)
