"""The run that MONAI Label starts: fine-tuning, on cases that are nothing but an image and a label."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_workflows import TRAIN, run, same_weights, watch_iterations, weights, workflow

from scripts.files.result_files import digest


@pytest.fixture
def settings(training_settings: dict[str, Any]) -> dict[str, Any]:
    """One iteration of fine-tuning."""
    return {**training_settings, "train::trainer::max_epochs": 1, "train::epoch_length": 1}


@pytest.fixture
def handed_over(tiny_data: Path) -> list[dict[str, str]]:
    """Two labelled cases as MONAI Label passes them."""
    cases = json.loads((tiny_data / "dataset.json").read_text(encoding="utf-8"))["training"]
    complete = sorted(cases, key=lambda case: -len(case["annotated"]))[:2]
    return [{key: str(tiny_data / case[key]) for key in ("image", "label")} for case in complete]


@pytest.fixture(scope="session")
def untrained(training_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights that nothing was trained for."""
    folder = tmp_path_factory.mktemp("untrained")
    building = workflow("run", TRAIN, output_dir=str(folder), **training_settings)
    building.initialize()
    torch.save(building.parser.get_parsed_content("network").state_dict(), folder / "model.pt")
    return folder


@pytest.fixture
def bundle(untrained: Path, tmp_path: Path) -> Path:
    """A folder with the weights where clients look for them."""
    (tmp_path / "bundle/models").mkdir(parents=True)
    shutil.copy2(untrained / "model.pt", tmp_path / "bundle/models")
    return tmp_path / "bundle"


def test_it_begins_with_the_weights_of_model_path(
    untrained: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = watch_iterations(monkeypatch)
    still = {**settings, "train::learning_rate": 0.0}
    run("run", TRAIN, output_dir=str(tmp_path), model_path=str(untrained / "model.pt"), **still)
    assert stages == [("segmentation", 1)]
    before, after = weights(untrained), weights(tmp_path / "fine_tuning_001")
    learned = [name for name, value in before.items() if value.is_floating_point() and "running_" not in name]
    assert all(torch.equal(before[name], after[name]) for name in learned)


def test_each_time_it_is_a_run_of_its_own_that_replaces_the_clients_weights(
    bundle: Path, settings: dict[str, Any], handed_over: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {
        "model_path": str(bundle / "models/model.pt"),
        "fine_tuning::published": str(bundle / "models/model.pt"),
    }
    overrides |= {"train::dataset::data": handed_over, "validate::dataset::data": []}
    first = weights(bundle / "models")
    stages = watch_iterations(monkeypatch)
    for _ in range(2):
        run("run", TRAIN, output_dir=str(bundle / "runs"), **settings, **overrides)
    assert stages == [("segmentation", 1)] * 2
    assert sorted(path.name for path in (bundle / "runs").iterdir()) == ["fine_tuning_001", "fine_tuning_002"]
    assert same_weights(bundle / "models", bundle / "runs/fine_tuning_002")
    reports = [json.loads((bundle / f"runs/fine_tuning_00{n}/fine_tuning.json").read_text()) for n in (1, 2)]
    assert reports[1]["began_with"]["sha256"] == reports[0]["result"]["sha256"]
    kept = weights(Path(reports[0]["previous_weights"]).parent, Path(reports[0]["previous_weights"]).name)
    assert all(torch.equal(kept[name], first[name]) for name in first)
    last = weights(bundle / "models")
    different = {name.split(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert different == {"segmenter"}, "the coarse stage is not trained"


def test_the_weights_that_monai_label_was_told_to_begin_with_are_those_of_the_report(
    bundle: Path, settings: dict[str, Any], handed_over: list[dict[str, str]]
) -> None:
    older, network = bundle / "models/older.pt", weights(bundle / "models")
    torch.save({name: value + 1 for name, value in network.items() if name != "organ_names"}, older)
    torch.save({**torch.load(older, weights_only=True), "organ_names": network["organ_names"]}, older)
    loader = {"_target_": "CheckpointLoader", "load_path": str(older), "load_dict": {"model": "$@network"}}
    overrides = {"train::handlers": [loader], "model_path": str(bundle / "models/model.pt"), **settings}
    overrides |= {"train::dataset::data": handed_over, "validate::dataset::data": []}
    run("run", TRAIN, output_dir=str(bundle / "runs"), **overrides, **{"fine_tuning::published": None})
    report = json.loads((bundle / "runs/fine_tuning_001/fine_tuning.json").read_text())
    assert report["began_with"] == {"path": str(older), "sha256": digest(older)}


def test_a_run_that_was_stopped_goes_on(
    bundle: Path, settings: dict[str, Any], handed_over: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"model_path": str(bundle / "models/model.pt"), "fine_tuning::published": None}
    overrides |= {"train::dataset::data": handed_over, "validate::dataset::data": [], "train::trainer::max_epochs": 2}
    settings = {**settings, **overrides}

    def stop(stage: str, iteration: int) -> None:
        if iteration == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        watch_iterations(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            run("run", TRAIN, output_dir=str(bundle / "runs"), **settings)
    stages = watch_iterations(monkeypatch)
    run("run", TRAIN, output_dir=str(bundle / "runs"), **settings)
    assert stages == [("segmentation", 2)]
    assert [path.name for path in (bundle / "runs").glob("fine*")] == ["fine_tuning_001"]
    assert [path.name for path in (bundle / "models").iterdir()] == ["model.pt"]


def complaint(**overrides: Any) -> str:
    with pytest.raises(Exception) as caught:
        run("run", TRAIN, **overrides)
    return str(caught.value.__cause__ or caught.value)


def test_without_weights_it_says_where_to_get_them(settings: dict[str, Any], tmp_path: Path) -> None:
    said = complaint(output_dir=str(tmp_path), model_path=str(tmp_path / "none.pt"), **settings)
    assert "train or download them" in said
    assert not list(tmp_path.glob("fine_tuning*"))


def test_without_a_labelled_case_it_says_what_to_do(untrained: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    empty: dict[str, Any] = {"train::dataset::data": [], "validate::dataset::data": []}
    said = complaint(output_dir=str(tmp_path), model_path=str(untrained / "model.pt"), **settings, **empty)
    assert "label a scan and save its label first" in said


def test_a_label_with_values_of_no_organ_is_refused_before_the_training(
    untrained: Path, settings: dict[str, Any], handed_over: list[dict[str, str]], tmp_path: Path
) -> None:
    swapped = [handed_over[0], {"image": handed_over[1]["image"], "label": handed_over[1]["image"]}]
    data: dict[str, Any] = {"train::dataset::data": swapped, "validate::dataset::data": []}
    said = complaint(output_dir=str(tmp_path), model_path=str(untrained / "model.pt"), **settings, **data)
    assert "label values that the dataset does not declare" in said
    assert not list(tmp_path.glob("fine_tuning*"))
