from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from config_compositions import load
from tiny_workflows import EVALUATE, STAGES, TRAIN, run, same_weights, watch_iterations, weights, workflow

from scripts.inference.predictor import decode_names


def file_times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def test_training_leaves_the_weights_of_the_whole_predictor(trained: Path) -> None:
    state = weights(trained)
    assert {name.split(".")[0] for name in state} == {"organ_names", "coarse", "segmenter"}
    assert decode_names(state["organ_names"])[:2] == ["spleen", "right_kidney"]
    assert all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point())


def test_training_keeps_one_checkpoint_for_each_stage_and_a_report_of_the_coarse_stage(trained: Path) -> None:
    assert {path.stem for path in trained.glob("*.pt")} == {*STAGES, "model"}
    assert {path.stem for path in trained.glob("*.json")} == {"run_manifest", "dataset_check", "coarse_recall"}
    assert len(list((trained / "coarse_maps").glob("*.npy"))) == 4
    assert not [path for path in trained.rglob(".*")], "temporary files are left"


def test_a_second_run_does_no_work(
    trained: Path,
    training_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = file_times(trained)
    iterations = watch_iterations(monkeypatch)
    with caplog.at_level(logging.INFO):
        run("training", TRAIN, output_dir=str(trained), **training_settings)
    assert iterations == []
    assert file_times(trained) == before
    for stage in ("coarse", "contrastive", "segmentation"):
        assert f"{stage}: done before, skipped" in caplog.text


def test_other_settings_in_the_same_folder_are_refused_before_any_work(
    trained: Path, training_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations = watch_iterations(monkeypatch)
    changed = {**training_settings, "contrastive::temperature": 0.07, "geometry::rotation": 5.0}
    with pytest.raises(Exception) as caught:
        run("training", TRAIN, output_dir=str(trained), **changed)
    message = str(caught.value.__cause__ or caught.value)
    assert "contrastive.temperature: was 0.1, now 0.07" in message
    assert "geometry.rotation: was 15.0, now 5.0" in message
    assert "--output_dir" in message
    assert iterations == []


def test_other_data_in_the_same_folder_is_checked_again(trained: Path) -> None:
    remembered = json.loads((trained / "dataset_check.json").read_text(encoding="utf-8"))
    assert remembered["summary"]["cases"] == {"training": 4, "validation": 1}


def test_the_composed_config_is_kept_with_expressions_as_they_are(
    trained: Path, training_settings: dict[str, Any]
) -> None:
    kept = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    assert kept.keys() == load(TRAIN).keys()
    assert kept["organs"] == training_settings["organs"] and kept["output_dir"] == str(trained)
    assert kept["segmenter"] == load(TRAIN)["segmenter"]
    assert kept["device"] == "$torch.device('cpu')"


def test_where_and_how_fast_a_run_goes_on_may_differ(
    trained: Path, training_settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "moved")
    elsewhere = {"cache_dir": str(tmp_path / "cache"), "precision": "bfloat16", "val_interval": 1}
    run("training", TRAIN, output_dir=str(tmp_path / "moved"), **{**training_settings, **elsewhere})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train::optimizer::weight_decay": 0.0}, "train.optimizer.weight_decay: was 0.0001, now 0.0"),
        ({"train::query_loss::loss::_target_": "DiceFocalLoss"}, "train.query_loss.loss._target_: was DiceCELoss"),
        ({"decoder::width": 8}, "decoder.width: was None, now 8"),
    ],
)
def test_loss_optimizer_and_decoder_are_compared(
    changed: dict[str, Any], said: str, trained: Path, training_settings: dict[str, Any]
) -> None:
    with pytest.raises(Exception) as caught:
        run("training", TRAIN, output_dir=str(trained), **training_settings, **changed)
    assert said in str(caught.value.__cause__ or caught.value)


def test_weights_that_the_training_of_the_folder_did_not_write_are_refused(
    trained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "swapped")
    torch.save(weights(trained), tmp_path / "swapped/model.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(Exception) as caught:
        run(
            "evaluate",
            EVALUATE,
            run_dir=str(tmp_path / "swapped"),
            dataset_dir=str(tiny_data),
            output_dir=str(tmp_path / "scores"),
        )
    assert "is not the file that the training in" in str(caught.value.__cause__ or caught.value)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Path, training_settings: dict[str, Any], tmp_path: Path
) -> None:
    run("training", TRAIN, output_dir=str(tmp_path / "same"), **training_settings)
    run("training", TRAIN, output_dir=str(tmp_path / "other"), **training_settings, seed=1)
    assert same_weights(trained, tmp_path / "same")
    assert not same_weights(trained, tmp_path / "other")


def test_the_last_epoch_is_validated_though_the_interval_is_longer_than_the_training(
    trained: Path, training_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**training_settings, "val_interval": 100, "train::epochs": 1, "train::epoch_length": 1}
    settings |= {"model_path": str(trained / "model.pt")}
    run("run", TRAIN, output_dir=str(tmp_path), **settings)
    assert (tmp_path / "fine_tuning_001/model.pt").exists()


@pytest.mark.parametrize(("overlays", "kind"), [((), "infer"), ((TRAIN,), "train")])
def test_the_properties_that_clients_ask_for_are_there(
    overlays: tuple[str, ...], kind: str, tiny_data: Path, training_settings: dict[str, Any], tmp_path: Path
) -> None:
    alone = {"encoder::name": "resnet18", "dataset_dir": str(tiny_data / "dataset.json")}
    settings = training_settings if overlays else alone
    checked = workflow("run", *overlays, workflow_type=kind, **settings, output_dir=str(tmp_path))
    checked.initialize()
    assert checked.check_properties() == []


@pytest.mark.slow
def test_with_few_labels_the_other_scans_join_the_contrastive_stage_and_no_other(
    training_settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**training_settings, "labelled_fraction": 0.5, "contrastive::unlabelled_confidence": 0.01}
    settings |= {"train::epochs": 1, "contrastive::epochs": 1, "coarse::stage::epochs": 1}
    with caplog.at_level(logging.INFO):
        run("training", TRAIN, output_dir=str(tmp_path), **settings)
    assert "labelled_fraction 0.5: 2 of 4 labelled cases keep their label" in caplog.text
    assert "unlabelled scans: the coarse maps of" in caplog.text
    assert len(list((tmp_path / "coarse_maps").glob("*.npy"))) == 4
    recall = json.loads((tmp_path / "coarse_recall.json").read_text(encoding="utf-8"))
    assert max(row["cases"] for row in recall.values()) == 2, "the coarse stage learns from labelled scans only"
    assert (tmp_path / "model.pt").exists()
