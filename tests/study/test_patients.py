"""The patients of best, median and worst mean Dice, read from an evaluation's folder and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from development.study.patients import load_patients, main
from scripts.dataset.datalists import load_cases
from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.summary import scores_frame

DICE = {"anna": 0.9, "bert": 0.5, "carl": 0.7, "dora": 0.1}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A data set of four scans with one organ, and an evaluation that found the organ a voxel too far to the right."""
    data, evaluation = tmp_path / "data", tmp_path / "evaluation"
    data.mkdir()
    evaluation.mkdir()
    cases = []
    for name in DICE:
        image = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
        label = np.zeros(image.shape, dtype=np.uint8)
        label[4:8, 3:6, 2:5] = 1
        for path, voxels in (
            (data / f"{name}.nii.gz", image),
            (data / f"{name}_label.nii.gz", label),
            (evaluation / f"{name}_seg.nii.gz", np.roll(label, 1, axis=0)),
        ):
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), path)
        cases.append({"case": name, "image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"})
    content = {"labels": {"0": "background", "1": "liver"}, "training": [], "validation": cases}
    (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    rows = [CaseScore(name, "liver", 1, "found", dice, 2.0, dice, 10.0, 10.0) for name, dice in DICE.items()]
    scores_frame(rows).to_csv(evaluation / "scores.csv", index=False)
    return data, evaluation


def test_best_median_and_worst_are_read_with_what_was_found_and_the_reference(folders: tuple[Path, Path]) -> None:
    data, evaluation = folders
    patients = load_patients(evaluation, load_cases(str(data), "validation", ["liver"]), ["liver"])
    assert [patient.title for patient in patients] == [
        "best: anna, mean Dice .90",
        "median: carl, mean Dice .70",
        "worst: dora, mean Dice .10",
    ]
    for patient in patients:
        assert np.array_equal(np.roll(patient.reference, 1, axis=0), patient.labels)
        assert patient.reference.sum() == 36


def test_the_command_writes_one_picture(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data, evaluation = folders
    main([str(evaluation), "--dataset_dir", str(data)])
    assert (evaluation / "patients.png").read_bytes().startswith(b"\x89PNG")
    assert "median: carl" in capsys.readouterr().out


def test_another_data_set_and_a_folder_without_label_maps_are_refused(folders: tuple[Path, Path]) -> None:
    data, evaluation = folders
    cases = load_cases(str(data), "validation", ["liver"])
    with pytest.raises(ValueError, match="no case of the data set is called anna"):
        load_patients(evaluation, cases[1:], ["liver"])
    (evaluation / "anna_seg.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"anna_seg\.nii\.gz does not exist; give the output_dir"):
        load_patients(evaluation, cases, ["liver"])
