"""A training becomes a bundle of its own, which passes the zoo's checks and runs without this repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from config_compositions import ROOT
from monai.bundle import ConfigParser
from monai.bundle import load as load_bundle

from development.release.__main__ import main
from development.release.run_bundle import require_finished, write_configs
from scripts.evaluation.quality import calibration_of
from scripts.files.result_files import FORMAT, MANIFEST, digest
from scripts.runtime.composition import composed

pytestmark = pytest.mark.slow
ABOUT = {"name": "Synthetic abdomen", "version": "1.2.3", "authors": "A. Person", "description": "Thirteen organs."}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training of the demonstration, of 13 organs, with the scores of an evaluation."""
    folder = tmp_path_factory.mktemp("run") / "demo"
    shutil.copytree(ROOT / "development/synthetic_abdomen", folder)
    (folder / "evaluation").mkdir()
    summary = {"macro_mean": {"dice_mean": 0.51234}}
    (folder / "evaluation/summary.json").write_text(json.dumps(summary), encoding="utf-8")
    write_manifest(folder / "evaluation", digest(folder / "model.pt"))
    calibration = {"weights_sha256": digest(folder / "model.pt"), "soft_dice": [0.0, 0.9, 1.0], "dice": [0.0, 0.8, 1.0]}
    (folder / "quality.json").write_text(json.dumps(calibration), encoding="utf-8")
    return folder


def write_manifest(evaluation: Path, weights: str) -> None:
    """As an evaluation with weights of this checksum leaves it behind."""
    tables = {"summary.json": {"weights_sha256": {"model.pt": weights}}}
    (evaluation / MANIFEST).write_text(json.dumps({"format": FORMAT, "cases": {}, "tables": tables}), encoding="utf-8")


def options(run_dir: Path, output_dir: Path, **changes: str) -> list[str]:
    about = {**ABOUT, "data_source": "Synthetic.", "licence": str(ROOT / "LICENSE"), **changes}
    words = [word for name, value in about.items() for word in (f"--{name}", value)]
    return ["from_run", "--run_dir", str(run_dir), "--output_dir", str(output_dir), *words]


@pytest.fixture(scope="module")
def made(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    assert main([*options(run_dir, output), "--half_precision", "float16"]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["synthetic_abdomen", "synthetic_abdomen_v1.2.3"]
    return output / "synthetic_abdomen"


def test_metadata_and_card_are_those_of_the_run(made: Path) -> None:
    metadata = json.loads((made / "configs/metadata.json").read_text(encoding="utf-8"))
    tensor = metadata["network_data_format"]["outputs"]["pred"]
    assert tensor["num_channels"] == 14 and tensor["channel_def"]["13"] == "left_adrenal_gland"
    assert metadata["eval_metrics"] == {"macro_mean_dice": 0.512}
    card = next((made.parent / "synthetic_abdomen_v1.2.3").rglob("README.md")).read_text(encoding="utf-8")
    assert "Version 1.2.3, by A. Person" in card and "| macro_mean_dice | 0.512 |" in card
    assert sorted(path.name for path in (made / "models").iterdir()) == ["model.pt", "quality.json"]
    assert calibration_of(made / "models/model.pt")["soft_dice"] == [0.0, 0.9, 1.0]  # its weights are rounded
    assert "data/phantom" not in (made / "configs/train.yaml").read_text(encoding="utf-8")


def test_it_loads_with_the_bundle_api_and_has_the_weights_of_the_run(made: Path, run_dir: Path) -> None:
    network = load_bundle(made.name, bundle_dir=str(made.parent), workflow_type="inference")
    trained = torch.load(run_dir / "model.pt", weights_only=True)
    found = network.state_dict()
    assert found.keys() == trained.keys()
    assert all(torch.equal(found[name], value.to(found[name].dtype)) for name, value in trained.items())


def test_its_command_segments_a_scan_without_this_repository(made: Path, phantom_dir: Path, tmp_path: Path) -> None:
    scan = sorted((phantom_dir / "images").iterdir())[0]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "scripts.segment", str(scan), "--output_dir", str(tmp_path), "--device", "cpu"]
    done = subprocess.run(command, cwd=made, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert (
        "Synthetic abdomen 1.2.3" in done.stdout and (tmp_path / scan.name.replace(".nii.gz", "_seg.nii.gz")).exists()
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Abdomen v2"}, "no word that begins with v"),
        ({"licence": "nowhere"}, "nowhere does not exist"),
        ({"version": "1"}, "expected three numbers"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(
    changes: dict[str, str], said: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(run_dir, tmp_path / "dist", **changes)) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "dist").exists() or list((tmp_path / "dist").iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(tmp_path, tmp_path / "dist")) == 1
    assert "holds no config.yaml" in capsys.readouterr().err


def test_scores_of_other_weights_are_not_those_of_the_bundle(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The run was evaluated at half time, then trained to its end.
    shutil.copytree(run_dir, tmp_path / "run")
    write_manifest(tmp_path / "run/evaluation", "0" * 64)
    assert main(options(tmp_path / "run", tmp_path / "dist")) == 1
    assert "evaluation/summary.json is not known to be of" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_a_training_that_was_stopped_is_not_released(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    torch.save({"epoch": 3}, tmp_path / "run/segmentation.pt")
    assert main(options(tmp_path / "run", tmp_path / "dist")) == 1
    assert "was stopped after 3 of " in capsys.readouterr().err
    with (tmp_path / "run/config.yaml").open("a", encoding="utf-8") as config:
        config.write("\nextra: {_target_: development.baselines.pixel_contrast.PixelContrast}\n")
    assert main(options(tmp_path / "run", tmp_path / "dist")) == 1
    assert "needs a clone of the repository" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_a_fine_tuning_of_monai_label_gives_its_files_and_epochs_to_no_bundle(tmp_path: Path) -> None:
    case = {"image": "/hospital/anna.nii.gz", "label": "/hospital/labels/final/anna.nii.gz"}
    loader = {"_target_": "CheckpointLoader", "load_path": "/hospital/model.pt", "load_dict": {"model": "$@network"}}
    overrides = {"train::dataset::data": [case], "validate::dataset::data": [case], "train::handlers": [loader]}
    overrides |= {"train::trainer::max_epochs": 3, "tracking_uri": "/hospital/mlruns", "run_name": "/hospital/run"}
    run = composed(str(ROOT / "configs/train.yaml"), **overrides).get()
    run.pop("_meta_", None)
    torch.save({"epoch": 3}, tmp_path / "segmentation.pt")
    require_finished(tmp_path, run)  # though @train::total_epochs are more
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    write_configs(tmp_path / "configs", run)
    for path in (tmp_path / "configs").glob("train.*"):
        assert "/hospital/" not in path.read_text(encoding="utf-8")
        written = ConfigParser.load_config_file(path)
        assert {**written, "note": ""} == {**ConfigParser.load_config_file(ROOT / "configs" / path.name), "note": ""}
    assert run["train"]["trainer"]["max_epochs"] == 3
