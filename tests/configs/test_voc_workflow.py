"""voc.yaml on a tiny set in the devkit's layout: training, evaluation by mIoU, palette PNG, and what stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_voc import CLASSES, HEIGHT, TINY_VOC, WIDTH, write_voc
from tiny_workflows import EVALUATE, TRAIN, run, watch_iterations

from scripts.evaluation.pixel_scores import COLUMNS
from scripts.evaluation.score_tables import read_runs

VOC = "configs/data/voc.yaml"
SLICE = "configs/baselines/slice.yaml"


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("voc"), train=4, val=2, test=1)


@pytest.fixture(scope="module")
def finished(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training through all stages."""
    folder = tmp_path_factory.mktemp("finished")
    run("training", TRAIN, VOC, dataset_dir=str(voc), output_dir=str(folder), **TINY_VOC)
    return folder


def scored(voc: Path, run_dir: Path, output_dir: Path) -> dict[str, Any]:
    """The command that uses a run."""
    paths = {"dataset_dir": str(voc), "run_dir": str(run_dir), "output_dir": str(output_dir)}
    return {**paths, "device": torch.device("cpu"), "precision": "float32"}


def test_training_takes_a_devkit_folder_and_leaves_a_predictor(finished: Path) -> None:
    state = torch.load(finished / "model.pt", weights_only=True)
    assert state["segmenter.encoder.stem.0.weight"].shape[1] == 4
    assert {path.stem for path in finished.glob("*.pt")} >= {"coarse", "contrastive", "segmentation"}


def test_an_evaluation_scores_all_pixels_and_writes_palette_masks(voc: Path, finished: Path, tmp_path: Path) -> None:
    run("evaluate", EVALUATE, **scored(voc, finished, tmp_path))
    frame = read_runs(tmp_path / "iou.csv", COLUMNS)
    assert frame["class"].tolist() == ["background", *CLASSES]
    masks = [np.array(Image.open(voc / f"SegmentationClass/val_{n}.png")) for n in range(2)]
    known = sum(int((mask < 255).sum()) for mask in masks)
    assert frame["reference_pixels"].sum() == frame["predicted_pixels"].sum() == known
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["val_0.png", "val_1.png"]
    assert not (tmp_path / "scores.csv").exists(), "Dice per case is for scans"


def test_inference_takes_the_test_images(voc: Path, finished: Path, tmp_path: Path) -> None:
    run("inference", **scored(voc, finished, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "test_0.png"]
    written = Image.open(tmp_path / "test_0.png")
    assert written.mode == "P" and written.size == (WIDTH, HEIGHT)
    assert set(np.unique(np.asarray(written))) <= {0, 1, 2}


def test_the_slice_baseline_runs_on_the_same_images(voc: Path, tmp_path: Path) -> None:
    given = {**TINY_VOC, "dataset_dir": str(voc), "output_dir": str(tmp_path)}
    run("training", TRAIN, VOC, SLICE, **given)
    run("evaluate", EVALUATE, **scored(voc, tmp_path, tmp_path / "evaluation"))
    assert (tmp_path / "evaluation/iou.csv").is_file()


@pytest.mark.slow
def test_a_few_dozen_steps_find_the_shapes(voc: Path, tmp_path: Path) -> None:
    longer = {
        "coarse::stage::epochs": 8,
        "coarse::stage::fold_epochs": 8,
        "coarse::stage::epoch_length": 10,
        "coarse::stage::batch_size": 8,
        "query_planner::threshold": 0.3,
        "train::epochs": 6,
        "train::epoch_length": 10,
        "train::batch_size": 16,
        "train::learning_rate": 1.0e-3,
        "val_interval": 6,
    }
    given = {**TINY_VOC, **longer, "dataset_dir": str(voc), "output_dir": str(tmp_path)}
    run("training", TRAIN, VOC, **given)
    run("evaluate", EVALUATE, **scored(voc, tmp_path, tmp_path / "evaluation"))
    ious = read_runs(tmp_path / "evaluation/iou.csv", COLUMNS)["iou"]
    assert float(ious.min()) > 0.6


def test_a_mask_of_colours_stops_the_training_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_voc(tmp_path / "voc", train=4, val=1)
    path = folder / "SegmentationClass/train_1.png"
    Image.open(path).convert("RGB").save(path)
    seen = watch_iterations(monkeypatch)
    with pytest.raises(Exception) as caught:
        run("training", TRAIN, VOC, dataset_dir=str(folder), output_dir=str(tmp_path / "run"), **TINY_VOC)
    message = str(caught.value.__cause__ or caught.value)
    assert "mask that does not hold class indices (1)" in message and "train_1.png" in message
    assert seen == [] and not (tmp_path / "run").exists()
