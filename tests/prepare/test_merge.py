"""Data sets contoured for different organs become one, and no value means another organ than before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_dataset import ct_voxels, label_voxels, save

from scripts.dataset.datalists import load_cases
from scripts.prepare.merge import main, merge_datalists
from scripts.preprocessing.organ_labels import load_organ_labels


def write_data_set(folder: Path, labels: dict[str, str], seed: int, **entry: Any) -> None:
    """Two training scans and a validation scan with the label values 0, 1 and 2."""
    folder.mkdir()
    entries = []
    for n in range(3):
        save(folder / f"s{n}.nii.gz", ct_voxels(seed + n))
        save(folder / f"l{n}.nii.gz", label_voxels())
        entries.append({"image": f"s{n}.nii.gz", "label": f"l{n}.nii.gz", "patient": f"p{n}", **entry})
    content = {"labels": labels, "training": [*entries[:2]], "validation": entries[2:]}
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    write_data_set(tmp_path / "ours", {"1": "spleen", "2": "liver"}, 0)
    write_data_set(tmp_path / "theirs", {"1": "Leber", "2": "aorta", "9": "background"}, 10)
    folders = [str(tmp_path / "ours"), str(tmp_path / "theirs")]
    assert main([*folders, "--rename", "Leber=liver", "--output_dir", str(tmp_path / "both")]) == 0
    return tmp_path / "both"


def test_every_scan_keeps_the_values_of_its_own_data_set(merged: Path) -> None:
    organs = ["spleen", "liver", "aorta"]
    cases = {case["case"]: case for case in load_cases(str(merged), "training", organs)}
    assert set(cases) == {"ours_s0", "ours_s1", "theirs_s0", "theirs_s1"}
    ours, theirs = cases["ours_s0"], cases["theirs_s0"]
    assert ours["label_values"] == {"spleen": 1, "liver": 2} and ours["annotated"] == ["spleen", "liver"]
    assert theirs["label_values"] == {"liver": 1, "aorta": 2} and theirs["annotated"] == ["liver", "aorta"]
    assert theirs["known_values"] == [0, 1, 2, 9]
    # The voxels 1, 2, 2 of both: spleen, liver, liver there and liver, aorta, aorta here.
    assert load_organ_labels(ours, organs).numpy().ravel()[1:4].tolist() == [1, 2, 2]
    assert load_organ_labels(theirs, organs).numpy().ravel()[1:4].tolist() == [2, 3, 3]


def test_patients_and_splits_are_kept_apart_by_data_set(merged: Path) -> None:
    content = json.loads((merged / "dataset.json").read_text())
    assert content["labels"] == {"0": "background", "1": "spleen", "2": "liver", "3": "aorta"}
    assert {entry["patient"] for entry in content["training"]} == {"ours_p0", "ours_p1", "theirs_p0", "theirs_p1"}
    assert {entry["case"] for entry in content["validation"]} == {"ours_s2", "theirs_s2"}
    assert (merged / "report.html").exists() and "- aorta" in (merged / "cohort.yaml").read_text()


def datalist(labels: dict[str, str], **entry: Any) -> dict[str, Any]:
    return {"labels": labels, "training": [{"image": "/a.nii", **entry}]}


@pytest.mark.parametrize(
    ("contoured", "joined"),
    [(["left_lung", "right_lung"], ["lung"]), (["left_lung", "heart"], ["heart"])],
    ids=["both", "one of two: the other would be background"],
)
def test_two_organs_of_one_new_name_are_joined_where_both_are_contoured(
    contoured: list[str], joined: list[str]
) -> None:
    lungs = datalist({"1": "left_lung", "2": "right_lung", "3": "heart"}, label="/l.nii", annotated=contoured)
    content = merge_datalists({"x": lungs}, {"left_lung": "lung", "right_lung": "lung"})
    (entry,) = content["training"]
    assert entry["labels"] == {"0": "background", "1,2": "lung", "3": "heart"}
    assert entry["annotated"] == joined


def test_splits_have_one_name_however_a_data_set_spells_them() -> None:
    nnunet = {"labels": {"1": "liver"}, "train": [{"image": "/a.nii"}], "val": [{"image": "/b.nii"}]}
    content = merge_datalists({"x": nnunet, "y": datalist({"1": "liver"})})
    assert (len(content["training"]), len(content["validation"])) == (2, 1) and "train" not in content


def test_an_unlabelled_scan_has_no_contours() -> None:
    content = merge_datalists({"x": datalist({"1": "liver"})})
    assert "annotated" not in content["training"][0]


def test_broken_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--rename names Milz, which no data set has"):
        merge_datalists({"x": datalist({"1": "liver"})}, {"Milz": "spleen"})
    with pytest.raises(ValueError, match="'right kidney' and 'Right_Kidney' look like one organ: join them with --ren"):
        merge_datalists({"x": datalist({"1": "right kidney"}), "y": datalist({"1": "Right_Kidney"})})
    with pytest.raises(ValueError, match="an entry of x has no 'image'"):
        merge_datalists({"x": {"labels": {"1": "liver"}, "training": [{"label": "a"}]}})
    with pytest.raises(ValueError, match="--rename takes OLD=NEW"):
        main(["a", "b", "--rename", "liver"])
    with pytest.raises(ValueError, match="2 data sets need as many different names"):
        main(["x/a", "y/a"])
    write_data_set(tmp_path / "one", {"1": "spleen", "2": "liver"}, 0)
    with pytest.raises(ValueError, match="one scan listed as several cases"):
        main([str(tmp_path / "one")] * 2 + ["--names", "a", "b", "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_values_of_a_label_file_are_those_that_the_tests_count_on() -> None:
    assert np.asarray(label_voxels()).ravel()[1:4].tolist() == [1, 2, 2]
