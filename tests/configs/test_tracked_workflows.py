"""`--tracking mlflow`: one experiment holds the training, with all its stages, and the evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import ROOT
from monai.bundle import run as bundle_run
from tiny_workflows import EVALUATE, STAGES, TRAIN

from scripts.runtime.progress import LISTENERS
from scripts.runtime.run_folder import flat_settings

mlflow = pytest.importorskip("mlflow", reason="requirements-tracking.txt is not installed")
pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.slow


def tracked(run_id: str, *overlays: str, **overrides: Any) -> None:
    """As the command line does it; values that JSON cannot hold do not come from there."""
    overrides = {**overrides, "device": "cpu", "bundle_root": str(ROOT)}
    bundle_run(run_id, config_file=[str(ROOT / name) for name in overlays], tracking="mlflow", **overrides)


@pytest.fixture
def experiment(training_settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The runs of the experiment by name, and where their artefacts lie."""
    store = {"tracking_uri": f"sqlite:///{tmp_path}/mlruns.db", **training_settings}
    training, evaluation = str(tmp_path / "mine"), str(tmp_path / "mine/evaluation")
    tracked("training", TRAIN, output_dir=training, **store)
    scored = {key: store[key] for key in ("tracking_uri", "dataset_dir", "device")}
    tracked("evaluate", EVALUATE, output_dir=evaluation, run_dir=training, **scored)
    client = mlflow.MlflowClient(tracking_uri=store["tracking_uri"])
    runs = client.search_runs([client.get_experiment_by_name("agscl").experiment_id])
    assert sorted(run.info.run_name for run in runs) == [training, evaluation]
    return {"client": client, "training": runs[1], "evaluation": runs[0], "folder": tmp_path / "mine"}


def test_settings_losses_dice_and_files_of_all_stages_are_in_one_experiment(experiment: dict[str, Any]) -> None:
    training, evaluation, client = experiment["training"], experiment["evaluation"], experiment["client"]
    settings = flat_settings(yaml.safe_load((experiment["folder"] / "config.yaml").read_text(encoding="utf-8")))
    assert training.data.params.items() >= {key: str(value) for key, value in settings.items()}.items()
    for stage in STAGES:
        losses = client.get_metric_history(training.info.run_id, f"{stage}/loss")
        assert [metric.step for metric in losses] == [1, 2], stage
    assert {"train_loss", "lr_group_0", "dice"} <= training.data.metrics.keys()
    files = {file.path for file in client.list_artifacts(training.info.run_id)}
    assert files >= {"config.yaml", "dataset_check.json", "coarse_recall.json", "model.pt"}
    assert any(name.startswith("config_") for name in files)

    scores = json.loads((experiment["folder"] / "evaluation/summary.json").read_text(encoding="utf-8"))
    assert evaluation.data.metrics["dice"] == pytest.approx(scores["macro_mean"]["dice_mean"])
    assert {f"dice/{organ}" for organ in scores["organs"]} >= evaluation.data.metrics.keys() - {"dice"}
    assert evaluation.data.params["model_path"] == str(experiment["folder"] / "model.pt")
    files = {file.path for file in client.list_artifacts(evaluation.info.run_id)}
    assert files >= {"scores.csv", "summary.json", "dice.png"}
    assert {training.info.status, evaluation.info.status} == {"FINISHED"} and LISTENERS == []
