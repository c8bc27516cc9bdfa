"""Splits of a cohort: patients stay whole, what scans say themselves holds, unlabelled ones train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.prepare.scan_entry import ScanEntry, split_scans, state_split

ORGANS = ["liver", "spleen"]


def scan(case: str, label: bool = True, patient: str | None = None, **more: object) -> ScanEntry:
    return ScanEntry(case, f"/{case}.nii", f"/l{case}.nii" if label else None, patient=patient, **more)  # type: ignore[arg-type]


@given(
    patients=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=12, max_size=30),
    folds=st.sampled_from([1, 3]),
    seed=st.integers(0, 3),
)
def test_no_patient_is_ever_divided_and_scans_without_any_label_train(
    patients: list[tuple[int, bool]], folds: int, seed: int
) -> None:
    scans = [scan(f"s{n}", label, f"p{patient}") for n, (patient, label) in enumerate(patients)]
    labelled = {one.patient for one in scans if one.label}
    if len(labelled) < 4:
        return
    for split in split_scans(scans, ORGANS, folds=folds, seed=seed):
        assert set(split) == {one.case for one in scans}
        splits_of = {patient: {split[one.case] for one in scans if one.patient == patient} for patient, _ in
                     {(one.patient, 0) for one in scans}}  # fmt: skip
        assert all(len(where) == 1 for where in splits_of.values())
        assert all(where == {"training"} for patient, where in splits_of.items() if patient not in labelled)
        assert {"training", "validation"} <= {split[one.case] for one in scans if one.label}


def test_what_a_scan_says_holds_for_all_scans_of_its_patient() -> None:
    scans = [scan("a", patient="p1", split="validation"), scan("b", label=False, patient="p1"), scan("c"), scan("d")]
    (split,) = split_scans(scans, ORGANS)
    # A validation that is given is not added to.
    assert split == {"a": "validation", "b": "validation", "c": "training", "d": "training"}


def test_a_patient_put_into_two_splits_is_refused() -> None:
    scans = [scan("a", patient="p1", split="validation"), scan("b", patient="p1", split="training")]
    with pytest.raises(ValueError, match="patient p1 is in the splits validation and training"):
        split_scans(scans, ORGANS)


@pytest.mark.parametrize("seed", range(5))
def test_an_organ_of_few_patients_is_in_training_and_validation(seed: int) -> None:
    scans = [scan(f"s{n}", organs=("liver",) if n < 18 else ("spleen",)) for n in range(20)]
    (split,) = split_scans(scans, ORGANS, seed=seed)
    assert {split["s18"], split["s19"]} == {"training", "validation"}


def test_scans_without_any_label_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="none of the 2 scans has a label; give --labels"):
        split_scans([scan("a", label=False), scan("b", label=False)], ORGANS)


def test_a_file_decides_and_leaves_out_what_it_does_not_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"training": ["a"], "validation": ["b"]}))
    splits = split_scans([scan("a"), scan("b"), scan("c")], ORGANS, split_file=str(tmp_path / "s.json"))
    assert splits == [{"a": "training", "b": "validation"}]
    assert "leaves out 1 cases: c." in caplog.text
    assert state_split(splits, 0, "split of s.json") == "split of s.json: 1 training, 1 validation"
