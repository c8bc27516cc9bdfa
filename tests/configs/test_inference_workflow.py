from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from config_compositions import composed, load
from kept_files import unchanged
from monai.bundle import ConfigParser
from tiny_bundle import TINY, make_bundle
from tiny_workflows import ABDOMEN, EVALUATE, TINY_PREDICTOR, run

from scripts.runtime.plain_errors import complaint

ORGANS = ABDOMEN["organs"]


@pytest.fixture
def scans(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder of two scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    content = json.loads((tiny_data / "dataset.json").read_text(encoding="utf-8"))
    for entry in content["test"]:
        shutil.copy(tiny_data / entry["image"], folder)
    return folder


@pytest.fixture
def settings(trained: Path, tmp_path: Path) -> dict[str, Any]:
    paths = {"model_path": str(trained / "model.pt"), "output_dir": str(tmp_path / "out")}
    return {**TINY_PREDICTOR, "organs": ORGANS, **paths}


def written(settings: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(settings["output_dir"]).iterdir() if path.name != "manifest.json")


def label_maps(scans: Iterable[str]) -> list[str]:
    return sorted(name.replace(".nii.gz", "_seg.nii.gz") for name in scans)


def test_a_folder_gives_a_label_map_for_every_scan_on_its_own_grid(scans: Path, settings: dict[str, Any]) -> None:
    run("inference", dataset_dir=str(scans), **settings)
    assert written(settings) == label_maps(path.name for path in scans.iterdir())
    for path in scans.iterdir():
        scan, labels = nib.load(path), nib.load(Path(settings["output_dir"]) / label_maps([path.name])[0])
        assert labels.shape == scan.shape
        np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
        assert set(np.unique(labels.dataobj)) <= set(range(len(ORGANS) + 1))
        assert np.asarray(labels.dataobj).dtype == np.uint8


def test_one_file_gives_the_same_labels_as_the_folder_that_it_lies_in(
    scans: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    first = sorted(scans.iterdir())[0]
    run("inference", dataset_dir=str(scans), **settings)
    run("inference", dataset_dir=str(first), **{**settings, "output_dir": str(tmp_path / "one")})
    both = (
        nib.load(Path(settings["output_dir"]) / label_maps([first.name])[0]),
        nib.load(tmp_path / "one" / label_maps([first.name])[0]),
    )
    np.testing.assert_array_equal(both[0].get_fdata(), both[1].get_fdata())


def test_the_preprocessing_leaves_what_a_client_sends_beside_the_image(scans: Path) -> None:
    parser = ConfigParser(dict(composed(("configs/inference.yaml",)).get()))
    request = {
        "image": str(sorted(scans.iterdir())[0]),
        "model_filename": ["model.pt"],
        "image_path": "x",
        "device": "cpu",
    }
    item = parser.get_parsed_content("preprocessing")(request)
    assert {key: item[key] for key in request if key != "image"} == {k: v for k, v in request.items() if k != "image"}
    assert item["image"].pixdim.tolist() == pytest.approx(load("configs/inference.yaml")["spacing"])


def test_a_datalist_gives_its_test_split(tiny_data: Path, settings: dict[str, Any]) -> None:
    run("inference", dataset_dir=str(tiny_data / "dataset.json"), **settings)
    content = json.loads((tiny_data / "dataset.json").read_text(encoding="utf-8"))
    assert written(settings) == label_maps(Path(entry["image"]).name for entry in content["test"])


def test_a_broken_scan_does_not_stop_the_others_and_the_end_names_it(scans: Path, settings: dict[str, Any]) -> None:
    good = sorted(path.name for path in scans.iterdir())
    (scans / "aaa_truncated.nii.gz").write_bytes((scans / good[0]).read_bytes()[:2000])
    (scans / "zzz_text.nii.gz").write_text("not a scan")
    with pytest.raises(SystemExit) as caught:
        run("inference", dataset_dir=str(scans), **settings)
    assert written(settings) == label_maps(good)
    message = str(caught.value.code)
    assert message.startswith("error: 2 of 4 scans failed:")
    assert "aaa_truncated" in message and "zzz_text" in message
    assert good[0].split(".")[0] not in message


def test_overlay_and_probabilities_are_written_when_asked_for(scans: Path, settings: dict[str, Any]) -> None:
    first = sorted(scans.iterdir())[0]
    run("inference", dataset_dir=str(first), save_overlay=True, save_probabilities=True, **settings)
    name = first.name.removesuffix(".nii.gz")
    assert written(settings) == sorted([f"{name}_seg.nii.gz", f"{name}_overlay.png", f"{name}_scores.nii.gz"])
    scores = nib.load(Path(settings["output_dir"]) / f"{name}_scores.nii.gz")
    assert scores.shape[3] == len(ORGANS) + 1
    assert 0.0 <= float(scores.get_fdata().min()) and float(scores.get_fdata().max()) <= 1.0


@pytest.mark.parametrize("said", ["false", "False", False])
def test_a_flag_set_to_false_on_the_command_line_is_false(said: str | bool, scans: Path) -> None:
    parser = composed(("configs/inference.yaml",))
    steps = [step for step in parser["postprocessing::transforms"] if isinstance(step, dict)]
    (disabled,) = [step["_disabled_"] for step in steps if "@save_overlay" in str(step.get("_disabled_"))]
    assert eval(disabled[1:].replace("@save_overlay", repr(said))) is True
    assert eval(disabled[1:].replace("@save_overlay", "'true'")) is False


def test_a_part_is_only_taken_away_from_organs_that_are_wanted() -> None:
    parser = ConfigParser(copy.deepcopy(composed(("configs/inference.yaml",)).get()))
    parser.update({"organs": ORGANS, "one_piece": ORGANS, "wanted_organs": ORGANS[1:2]})
    parser.parse()
    (step,) = (one for one in parser.get_parsed_content("postprocessing").transforms if hasattr(one, "one_piece"))
    assert step.one_piece == [2]


def test_weights_of_other_organs_are_refused_with_both_lists(scans: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(Exception) as caught:
        run("inference", dataset_dir=str(scans), **{**settings, "organs": ["liver", "spleen"]})
    message = str(caught.value.__cause__ or caught.value)
    assert "are for the organs ['spleen', 'right_kidney'" in message and "['liver', 'spleen']" in message


@pytest.mark.parametrize(
    "configs",
    [
        pytest.param((EVALUATE,), id="final"),
        pytest.param((EVALUATE, "configs/baselines/coarse_only.yaml"), id="coarse"),
    ],
)
def test_an_evaluation_writes_scores_of_every_case_and_organ(
    configs: tuple[str, ...], tiny_data: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", *configs, dataset_dir=str(tiny_data), **settings)
    assert {"scores.csv", "summary.csv", "summary.json"} <= set(written(settings))
    rows = (Path(settings["output_dir"]) / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(ORGANS)  # a header; one validation case
    assert ("coarse" if len(configs) > 1 else "two-stage") in capsys.readouterr().out


@pytest.fixture
def settings_evaluation_workflow(tiny_data: Path, tmp_path: Path) -> dict[str, Any]:
    """An evaluation of one scan with labels, all in a folder that the test may look at."""
    bundle = make_bundle(tmp_path / "bundle", organs=ABDOMEN["organs"])
    shutil.copytree(tiny_data, tmp_path / "data")
    return {
        **TINY,
        "organs": ABDOMEN["organs"],
        "dataset_dir": str(tmp_path / "data"),
        "model_path": str(bundle.model),
        "output_dir": str(tmp_path / "data/images"),
    }


def test_an_evaluation_is_repeated_but_replaces_no_input_and_no_other_scores(
    settings_evaluation_workflow: dict[str, Any], tmp_path: Path
) -> None:
    with unchanged(tmp_path):
        run("evaluate", EVALUATE, **settings_evaluation_workflow)
    out = Path(settings_evaluation_workflow["output_dir"])
    listed = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["tables"]
    assert sorted(listed) == ["dice.png", "scores.csv", "summary.csv", "summary.json"]
    scores = (out / "scores.csv").read_bytes()
    run("evaluate", EVALUATE, **settings_evaluation_workflow)
    assert (out / "scores.csv").read_bytes() == scores
    with unchanged(tmp_path), pytest.raises(Exception) as refusal:
        run("evaluate", EVALUATE, **settings_evaluation_workflow, surface_tolerance=1.0)
    assert "scores.csv: made with other settings" in complaint(refusal.value)
    with unchanged(tmp_path), pytest.raises(Exception) as refusal:
        run("evaluate", EVALUATE, **settings_evaluation_workflow, split="training")
    assert "scores.csv: made with other cases" in complaint(refusal.value)
