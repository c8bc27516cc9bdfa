"""Splits: every case in one place, patients never divided, what scans say holds, and what a broken list is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.prepare.split import ScanEntry, deal_folds, hold_out, read_splits, split_scans, state_split

NAMES = [f"img{n:04d}" for n in (*range(1, 11), *range(21, 41))]


def test_folds_of_thirty_cases_are_those_of_nnunet() -> None:
    # KFold(5, shuffle=True, random_state=12345) over 30 sorted names, as nnunetv2 generates its splits_final.json.
    first = [name for name, split in deal_folds(NAMES)[0].items() if split == "validation"]
    assert first == ["img0004", "img0009", "img0023", "img0026", "img0029", "img0037"]


@given(count=st.integers(2, 40), folds=st.integers(2, 8), seed=st.integers(0, 5))
def test_every_name_is_held_out_by_exactly_one_fold(count: int, folds: int, seed: int) -> None:
    names = [f"p{n}" for n in range(count)]
    if folds > count:
        with pytest.raises(ValueError, match=f"give 2 to {count} folds"):
            deal_folds(names, folds, seed)
        return
    dealt = deal_folds(names, folds, seed)
    held_out = [name for split in dealt for name, chosen in split.items() if chosen == "validation"]
    assert sorted(held_out) == sorted(names)
    assert all(set(split) == set(names) for split in dealt)


@given(count=st.integers(3, 40), validation=st.floats(0.01, 0.4), test=st.floats(0.0, 0.3), seed=st.integers(0, 5))
def test_held_out_shares_are_those_asked_for_and_the_same_for_the_same_seed(
    count: int, validation: float, test: float, seed: int
) -> None:
    names = [f"p{n}" for n in range(count)]
    split = hold_out(names, validation, test, seed)
    chosen = list(split.values())
    assert chosen.count("validation") == max(1, round(validation * count))
    assert chosen.count("test") == round(test * count)
    assert "training" in chosen
    assert split == hold_out(list(reversed(names)), validation, test, seed)


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="hold out 2 of 2 labelled patients; lower them"):
        hold_out(["a", "b"], 0.5, 0.5)


def write(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_list_of_folds_in_the_form_of_nnunet_is_read(tmp_path: Path) -> None:
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}]
    first, second = read_splits(write(tmp_path, folds), ["a", "b", "c"])
    assert first == {"a": "training", "b": "training", "c": "validation"}
    assert second == {"b": "training", "c": "training", "a": "validation"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"training": [', "is not valid JSON"),
        ([], "has another form than expected"),
        ({"training": ["a"]}, "has another form than expected"),
        ({"training": ["a"], "validation": ["b"], "holdout": []}, "has another form than expected"),
        ({"training": ["a"], "validation": ["x"]}, "cases that are not there: x; and cases twice: none. Each of a, b"),
        ({"training": ["a", "b"], "validation": ["b"]}, "cases twice: b"),
        ({"training": ["a", "b"], "validation": []}, "has no case for validation"),
    ],
)
def test_a_broken_list_is_refused_with_its_remedy(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_splits(write(tmp_path, content), ["a", "b"])


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.json' does not exist"):
        read_splits(str(tmp_path / "nowhere.json"), ["a"])


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


def test_a_validation_that_is_given_is_not_that_of_every_fold() -> None:
    # Scored once in each fold, it would be refused when the scores of all trained folds are pooled.
    scans = [scan("a", split="validation"), scan("b"), scan("c")]
    with pytest.raises(ValueError, match="each of 2 folds validates on patients of its own"):
        split_scans(scans, ORGANS, folds=2)
    with pytest.raises(ValueError, match="2 folds hold out no test patients: leave out the share of test, 0.3"):
        split_scans(scans[1:], ORGANS, folds=2, test=0.3)


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
