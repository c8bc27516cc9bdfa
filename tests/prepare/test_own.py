"""Scans of one's own: one command to a data set, its report and its config; or a refusal with nothing written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from config_compositions import ROOT
from monai.bundle import ConfigParser
from tiny_dataset import write_scan, write_series

from scripts.dataset.datalists import load_cases
from scripts.dataset.problems import DatasetError, Kind
from scripts.prepare.own import main

VALUES = ["--values", "1=spleen", "2=liver"]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Five labelled scans, one unlabelled, and one unlabelled DICOM series."""
    for seed, name in enumerate(["anna", "ben", "cleo", "dora", "emil"]):
        write_scan(tmp_path, name, seed)
    write_scan(tmp_path, "fritz", 7, labelled=False)
    write_series(tmp_path / "scans" / "gerda", 8, patient="p8")
    return tmp_path


def prepare(folder: Path, *arguments: str) -> Any:
    """Run the command on the folders and return the datalist."""
    places = ["--images", str(folder / "scans"), "--labels", str(folder / "labels")]
    assert main([*places, "--output_dir", str(folder / "out"), *arguments]) == 0
    path = folder / "out" / "dataset.json"
    return json.loads(path.read_text()) if path.exists() else None


def names(content: Any, split: str) -> set[str]:
    return {Path(entry["image"]).name.split(".")[0] for entry in content[split]}


def test_folders_become_a_data_set_a_report_and_a_config(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = prepare(scans, *VALUES)
    assert len(content["validation"]) == 1 and names(content, "validation") < {"anna", "ben", "cleo", "dora", "emil"}
    assert {"fritz", "gerda"} < names(content, "training") and len(content["training"]) == 6
    assert [entry for entry in content["training"] if entry.get("patient") == "p8"]
    cases = load_cases(str(scans / "out"), "training", ["liver", "spleen"])
    assert {case["case"] for case in cases if "label" not in case} == {"fritz", "gerda"}
    assert "gerda" in (scans / "out/report.html").read_text()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    python")]
    assert [shlex.split(line)[4] for line in printed] == ["training", "evaluate", "inference"]
    assert str(scans / "out/cohort.yaml") in printed[0]


def test_the_config_lies_on_the_trunk_and_has_the_organs_and_a_grid(scans: Path) -> None:
    prepare(scans, *VALUES, "--organs", "liver")
    overlay = scans / "out/cohort.yaml"
    assert yaml.safe_load(overlay.read_text()) == {
        "organs": ["liver"],
        "one_piece": ["liver"],
        "phases": [],
        "spacing": [2.0, 2.0, 3.0],
        "coarse_spacing": [4.0, 4.0, 6.0],
        "+initialize": {"_target_": "scripts.runtime.composition.require_base"},
        "+query_planner": {"patch_size": 96},
        "+coarse": {},
        "+coarse::stage": {"patch_size": [16, 16, 16]},
    }
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs/train.yaml"), str(overlay)])
    assert parser.get_parsed_content("organs") == ["liver"]
    assert parser["query_planner::patch_size"] == 96 and parser["coarse::stage::patch_size"] == [16, 16, 16]
    assert parser["initialize::_disabled_"] and "epochs" in parser["coarse::stage"]


def test_a_value_that_is_not_declared_is_refused_and_nothing_is_written(scans: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        prepare(scans, "--values", "1=spleen")
    assert {problem.kind for problem in caught.value.problems} == {Kind.UNKNOWN_VALUE}
    assert len(caught.value.problems) == 5
    assert not (scans / "out").exists()


def test_values_may_be_joined_and_declared_as_background(scans: Path) -> None:
    prepare(scans, "--values", "1,2=abdomen", "9=background")
    case = load_cases(str(scans / "out"), "validation", ["abdomen"])[0]
    assert case["label_values"] == {"abdomen": [1, 2]} and case["known_values"] == [0, 1, 2, 9]


def test_values_may_come_from_the_labels_of_a_datalist(scans: Path) -> None:
    (scans / "v.json").write_text(json.dumps({"labels": {"0": "background", "1": "spleen", "2": "liver"}}))
    assert prepare(scans, "--values", str(scans / "v.json"))["labels"]["2"] == "liver"


def test_without_values_the_message_shows_those_of_a_label(scans: Path) -> None:
    with pytest.raises(ValueError, match=r"got nothing\. .*anna.nii.gz has the values 0, 1, 2\."):
        prepare(scans)
    with pytest.raises(ValueError, match="names the value 1 twice"):
        prepare(scans, "--values", "1=liver", "1=spleen")


def test_an_organ_that_no_value_has_is_refused(scans: Path) -> None:
    with pytest.raises(ValueError, match="--values does not name pancreas"):
        prepare(scans, *VALUES, "--organs", "liver", "pancreas")


def test_either_folders_or_a_table_are_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give either --images"):
        main(["--output_dir", str(tmp_path)])


def test_folds_hold_every_labelled_patient_out_once(scans: Path) -> None:
    prepare(scans, *VALUES, "--folds", "2")
    folds = [json.loads((scans / f"out/fold{n}/dataset.json").read_text()) for n in (0, 1)]
    assert sorted(names(folds[0], "validation") | names(folds[1], "validation")) == [
        "anna",
        "ben",
        "cleo",
        "dora",
        "emil",
    ]
    assert (scans / "out/cohort.yaml").exists() and (scans / "out/report.html").exists()


def test_every_fold_is_checked_before_the_first_is_trained(scans: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Of the second fold the only scan that is contoured for the spleen is held out: its training would be refused.
    rows = ["image,label,organs,split", "scans/anna.nii.gz,labels/anna.nii.gz,,"]
    rows += [f"scans/{name}.nii.gz,labels/{name}.nii.gz,liver," for name in ("ben", "cleo")]
    (scans / "scans.csv").write_text("\n".join(rows))
    folds = [{"train": ["anna", "ben"], "val": ["cleo"]}, {"train": ["ben", "cleo"], "val": ["anna"]}]
    (scans / "folds.json").write_text(json.dumps(folds))
    arguments = ["--table", str(scans / "scans.csv"), *VALUES, "--split", str(scans / "folds.json")]
    with caplog.at_level("INFO"), pytest.raises(DatasetError, match="organ without a training example") as caught:
        main([*arguments, "--output_dir", str(scans / "out")])
    assert [problem.where for problem in caught.value.problems] == ["spleen"]
    assert caplog.messages[-1].startswith("Checking fold 1 of 2") and not (scans / "out").exists()


def test_a_table_gives_phase_organs_patient_and_split(scans: Path) -> None:
    rows = ["image,label,phase,organs,patient,split"]
    for name, split in zip(["anna", "ben", "cleo"], ["training", "training", "validation"], strict=True):
        rows.append(f"scans/{name}.nii.gz,labels/{name}.nii.gz,portal_venous,,p_{name},{split}")
    rows.append("scans/dora.nii.gz,labels/dora.nii.gz,non_contrast,liver,p_anna,")
    (scans / "scans.csv").write_text("\n".join(rows))
    main(["--table", str(scans / "scans.csv"), *VALUES, "--output_dir", str(scans / "out")])
    cases = {case["case"]: case for case in load_cases(str(scans / "out"), "training", ["spleen", "liver"])}
    assert set(cases) == {"anna", "ben", "dora"}
    assert cases["dora"]["annotated"] == ["liver"] and cases["dora"]["patient"] == "p_anna"
    assert yaml.safe_load((scans / "out/cohort.yaml").read_text())["phases"] == ["non_contrast", "portal_venous"]


def test_a_config_of_other_organs_is_not_trained_with(scans: Path) -> None:
    prepare(scans, *VALUES)
    with pytest.raises(ValueError, match="cohort.yaml lists other organs than liver: delete it, or give another"):
        prepare(scans, *VALUES, "--organs", "liver")


def test_names_that_yaml_takes_for_something_else_stay_names(scans: Path) -> None:
    rows = ["image,label,phase,split"]
    for name, phase, split in (("anna", "no", "training"), ("ben", "yes", "training"), ("cleo", "no", "validation")):
        rows.append(f"scans/{name}.nii.gz,labels/{name}.nii.gz,{phase},{split}")
    (scans / "scans.csv").write_text("\n".join(rows))
    values = ["--values", "1=spleen #1", "2=12"]
    main(["--table", str(scans / "scans.csv"), *values, "--output_dir", str(scans / "out")])
    overlay = yaml.safe_load((scans / "out/cohort.yaml").read_text())
    assert (overlay["organs"], overlay["phases"]) == (["spleen #1", "12"], ["no", "yes"])


def test_an_organ_whose_labels_are_in_parts_is_not_one_piece(scans: Path) -> None:
    label: Any = nib.load(scans / "labels/anna.nii.gz")
    voxels = np.asarray(label.dataobj).copy()
    voxels[5, 4, 0] = 2
    nib.save(nib.Nifti1Image(voxels, label.affine), scans / "labels/anna.nii.gz")
    prepare(scans, *VALUES)
    assert yaml.safe_load((scans / "out/cohort.yaml").read_text())["one_piece"] == ["spleen"]


def test_phases_that_some_scans_lack_are_not_used(scans: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["image,label,phase", "scans/anna.nii.gz,labels/anna.nii.gz,portal_venous"]
    rows += [f"scans/{name}.nii.gz,labels/{name}.nii.gz," for name in ("ben", "cleo")]
    (scans / "scans.csv").write_text("\n".join(rows))
    main(["--table", str(scans / "scans.csv"), *VALUES, "--output_dir", str(scans / "out")])
    assert yaml.safe_load((scans / "out/cohort.yaml").read_text())["phases"] == []
    assert "2 scans do not say their contrast phase" in caplog.text
