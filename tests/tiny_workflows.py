"""Running the real configs in this process on tiny data with tiny networks, and looking at what came out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from config_compositions import BASES, INFERENCE, ROOT, load
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow

from scripts.runtime.progress import StageProgress

TRAIN, EVALUATE = "configs/train.yaml", "configs/evaluate.yaml"
STAGES = ["coarse_fold0", "coarse_fold1", "coarse", "contrastive", "segmentation"]
ITERATIONS = 4  # of each stage: 2 epochs of 2

ABDOMEN = load("configs/data/abdomen.yaml")
"""What the synthetic abdomen has: the default organs are of head and neck."""
TINY_PREDICTOR: dict[str, Any] = {
    "spacing": [12.0, 12.0, 24.0],
    "coarse_spacing": [12.0, 12.0, 24.0],
    "coarse_network::channels": [8, 8, 8, 8],
    "query_planner::patch_size": 32,
    "training_planner": "@query_planner",
    "query_planner::threshold": 0.05,  # the coarse stage hardly learns anything in 4 iterations
    "encoder::name": "resnet18",
    "precision": "float32",
    "device": torch.device("cpu"),
}
TINY_TRAINING: dict[str, Any] = {
    **TINY_PREDICTOR,
    "organs": ABDOMEN["organs"],
    "phases": ABDOMEN["phases"],
    "coarse::stage::patch_size": [16, 16, 8],
    "coarse::stage::epochs": 2,
    "coarse::stage::fold_epochs": 2,
    "coarse::stage::epoch_length": 2,
    "contrastive::epochs": 2,
    "contrastive::epoch_length": 2,
    "contrastive::batch_size": 4,
    "contrastive::network::head::hidden": 16,
    "train::epochs": 2,
    "train::epoch_length": 2,
    "train::batch_size": 4,
    "val_interval": 2,
}


def workflow(run_id: str, *overlays: str, workflow_type: str | None = None, **overrides: Any) -> ConfigWorkflow:
    """A workflow of configs, inference where no other one is named, with values in place of those of the configs."""
    files = overlays if overlays and overlays[0] in BASES else (INFERENCE, *overlays)
    return ConfigWorkflow(
        config_file=[str(ROOT / name) for name in files],
        meta_file=str(ROOT / "configs/metadata.json"),
        logging_file=False,
        run_id=run_id,
        workflow_type=workflow_type,
        bundle_root=str(ROOT),
        **overrides,
    )


def run(run_id: str, *overlays: str, **overrides: Any) -> None:
    """Run a workflow to its end."""
    running = workflow(run_id, *overlays, **overrides)
    running.initialize()
    running.run()
    running.finalize()


def weights(folder: Path, name: str = "model.pt") -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(folder / name, weights_only=True)
    return content


def same_weights(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def watch_iterations(
    monkeypatch: pytest.MonkeyPatch, after: Callable[[str, int], None] = lambda stage, iteration: None
) -> list[tuple[str, int]]:
    """List every training iteration of every stage as (stage, iteration); call `after` behind each."""
    seen: list[tuple[str, int]] = []
    advance = StageProgress._advance

    def watched(self: StageProgress, engine: Engine) -> None:
        advance(self, engine)
        seen.append((self.stage, engine.state.iteration))
        after(self.stage, engine.state.iteration)

    monkeypatch.setattr(StageProgress, "_advance", watched)
    return seen
