"""What a dataset must be as a whole, and how all of its problems reach the user at once."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_dataset import ORGANS, Case, assert_only_problem, ct_voxels, label_voxels, refusal, save, truncate, write_case

from scripts.dataset.case_check import check_case
from scripts.dataset.check import check_dataset
from scripts.dataset.problems import DatasetError, Kind, Problem, report


def test_a_clean_dataset_is_counted_per_split_and_organ(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    no_liver = np.where(label_voxels() == 2, 0, label_voxels())
    unlabelled = write_case(tmp_path, "d", seed=4, annotated=[])
    del unlabelled["label"]
    splits = {
        "training": [write_case(tmp_path, "a", seed=1), write_case(tmp_path, "b", seed=2, label=no_liver)],
        "validation": [write_case(tmp_path, "c", seed=3), unlabelled],
    }
    with caplog.at_level(logging.INFO):
        summary = check_dataset(splits, ORGANS, folds=2, progress=False)
    assert summary.cases == {"training": 2, "validation": 2}
    assert summary.labelled == {"training": 2, "validation": 1}
    assert summary.organ_cases["training"] == {"spleen": 2, "liver": 1}
    assert "training: 2 cases, 2 labelled; cases that show an organ: spleen 2, liver 1" in caplog.text
    assert len(summary.warnings) == 1 and "organ in a single training case (1; " in summary.warnings[0]


def test_an_organ_that_no_training_case_shows_is_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", annotated=["spleen"])
    assert_only_problem(refusal(case), Kind.NO_EXAMPLE, "liver", "annotated in training cases: 0")
    case = write_case(tmp_path, "a", label=np.minimum(label_voxels(), 1))
    assert_only_problem(refusal(case), Kind.NO_EXAMPLE, "liver", "annotated in training cases: 1, with voxels of it: 0")


def test_too_few_labelled_cases_for_the_folds_are_reported(tmp_path: Path) -> None:
    cases = [write_case(tmp_path, name, seed) for seed, name in enumerate("ab")]
    found = "2 of 2 cases labelled with an organ of the config, expected at least 3 for 3 folds"
    assert_only_problem(refusal(*cases, folds=3), Kind.NO_CASES, "training", found)


def test_a_validation_split_without_labels_and_an_empty_split_are_reported(tmp_path: Path) -> None:
    unlabelled = write_case(tmp_path, "a", annotated=[])
    del unlabelled["label"]
    with pytest.raises(DatasetError) as caught:
        check_dataset({"validation": [unlabelled], "test": []}, ORGANS, progress=False)
    assert "  - test: no case" in str(caught.value)
    assert "  - validation: 0 of 1 cases labelled" in str(caught.value)


def test_phases_matter_only_when_the_config_lists_some(tmp_path: Path) -> None:
    known = write_case(tmp_path, "a", phase="portal_venous")
    check_dataset({"training": [known]}, ORGANS, progress=False)
    for phase in (None, "arterial"):
        case = write_case(tmp_path, "b", seed=1, phase=phase)
        error = refusal(known, case, phases=["portal_venous"])
        assert_only_problem(error, Kind.PHASE, case["image"], f"phase is {phase!r}, expected one of: portal_venous")
    summary = check_dataset({"training": [known]}, ORGANS, ["portal_venous", "non_contrast"], progress=False)
    assert summary.warnings[0].endswith(": non_contrast")


def test_a_scan_in_two_splits_is_reported_by_path_and_by_content(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", seed=1)
    copy = {**case, "case": "copy", "image": save(tmp_path / "copy.nii", ct_voxels(1).astype(np.float32))}
    for other, found in ((case, "the same file as"), (copy, "the same voxels as")):
        with pytest.raises(DatasetError) as caught:
            check_dataset({"training": [case], "validation": [other]}, ORGANS, progress=False)
        found = f"{found} {case['image']} (training)"
        assert_only_problem(caught.value, Kind.DUPLICATE, f"{other['image']} (validation)", found)


def test_all_problems_of_a_dataset_are_reported_at_once(tmp_path: Path) -> None:
    windowed = write_case(tmp_path, "a", image=np.clip(ct_voxels(1), 0, 255))
    missing = {**write_case(tmp_path, "b", seed=2), "label": str(tmp_path / "gone.nii.gz")}
    broken = write_case(tmp_path, "c", seed=3)
    truncate(Path(broken["image"]))
    other_grid = write_case(tmp_path, "d", seed=4, label=label_voxels((6, 5, 3)) * 4)
    with pytest.raises(DatasetError) as caught:
        check_dataset({"training": [windowed, missing, broken, other_grid], "test": []}, ORGANS, ["x"], progress=False)
    kinds = [problem.kind for problem in caught.value.problems]
    phase, value = Kind.PHASE, Kind.UNKNOWN_VALUE
    assert sorted(kind.name for kind in kinds) == sorted(
        kind.name
        for kind in [Kind.NOT_HU, Kind.MISSING_FILE, Kind.UNREADABLE, Kind.GRID, value, *[phase] * 4]
        + [Kind.NO_CASES, Kind.NO_CONTOUR]
    )
    for kind in kinds:
        assert kind.title in str(caught.value) and kind.remedy in str(caught.value)


@given(st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=300))
def test_a_long_report_is_cut_yet_counts_all_and_hides_no_kind(kinds: list[Kind]) -> None:
    text = report([Problem(kind, f"file_{index}") for index, kind in enumerate(kinds)])
    shown = text.count("\n  - ")
    hidden = sum(int(line.split()[2]) for line in text.splitlines() if line.startswith("  ... and "))
    assert shown == min(len(kinds), 50)
    assert shown + hidden == len(kinds)
    assert all(f"{kind.title} ({kinds.count(kind)})" in text for kind in kinds)
    assert text.startswith(f"The dataset cannot be used, it has {len(kinds)} problem")


def test_a_stamp_makes_the_second_check_instant_until_a_file_or_setting_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {"training": [write_case(tmp_path, "a", seed=1), write_case(tmp_path, "b", seed=2)]}
    read: list[str] = []

    def counted(case: Case, *arguments: Any) -> Any:
        read.append(case["case"])
        return check_case(case, *arguments)

    monkeypatch.setattr("scripts.dataset.check.check_case", counted)
    stamp = str(tmp_path / "cache" / "stamp.json")
    first = check_dataset(splits, ORGANS, stamp=stamp, progress=False)
    assert check_dataset(splits, ORGANS, stamp=stamp, progress=False) == first
    assert len(read) == 2
    check_dataset(splits, ORGANS, folds=2, stamp=stamp, progress=False)
    assert len(read) == 4
    Path(stamp).write_text("{ half a stamp")
    check_dataset(splits, ORGANS, stamp=stamp, progress=False)
    assert len(read) == 6
    image = Path(splits["training"][0]["image"])
    truncate(image)
    with pytest.raises(DatasetError, match=image.name):
        check_dataset(splits, ORGANS, stamp=stamp, progress=False)
    assert os.listdir(tmp_path / "cache") == ["stamp.json"]


def test_a_stamp_that_cannot_be_written_does_not_stop_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    splits = {"training": [write_case(tmp_path, "a")]}
    assert check_dataset(splits, ORGANS, stamp=str(tmp_path / "file" / "stamp"), progress=False).cases["training"] == 1
    assert "cannot be remembered" in caplog.text


@pytest.mark.parametrize(
    ("organs", "splits", "folds"), [([], {"test": []}, 1), (["liver"], {}, 1), (["a"], {"b": []}, 0)]
)
def test_a_check_of_nothing_is_refused(organs: list[str], splits: dict[str, list[Case]], folds: int) -> None:
    with pytest.raises(ValueError, match="expected at least one of each; fix the config"):
        check_dataset(splits, organs, folds=folds)
