"""Training by torchrun: every stage with two processes, gone on with by one, the same files as ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml
from config_compositions import ROOT
from tiny_workflows import STAGES, TRAIN, run, watch_iterations, weights

MULTI_GPU = "configs/variants/multi_gpu.yaml"
PATIENCE_S = 600.0

needs_gloo = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")


def torchrun(processes: int, run_id: str, folder: Path, settings: dict[str, Any], **environment: str) -> str:
    """Run the bundle by torchrun and return what it printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += ["-m", "monai.bundle", "run", run_id]
    command += ["--config_file", str([TRAIN, MULTI_GPU]), "--output_dir", str(folder)]
    for name, value in settings.items():
        command += [] if name == "device" else [f"--{name}", str(value)]
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE_S,
    )
    assert finished.returncode == 0, finished.stdout[-4000:]
    return finished.stdout


@needs_gloo
@pytest.mark.slow
def test_two_processes_train_every_stage_and_one_goes_on_with_what_they_left(
    training_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One validation case: the second process has none of its own. Of five queries it draws two.
    settings = {**training_settings, "train::batch_size": 5, "cache_dir": str(tmp_path / "cache")}
    folder = tmp_path / "run"
    log = torchrun(2, "training", folder, settings, CUDA_VISIBLE_DEVICES="")
    assert {path.stem for path in folder.glob("*.pt")} == {*STAGES, "model"}
    assert len(list((folder / "coarse_maps").glob("*.npy"))) == 4
    assert not [path for path in folder.rglob(".*")], "temporary files are left"
    for stage in STAGES:
        assert log.count(f"{stage}: epoch 2 of 2") == 1, "one process writes the log"
    assert log.count("validation: dice") == 1
    assert all(bool(value.isfinite().all()) for value in weights(folder).values())

    (folder / "segmentation.pt").unlink()
    iterations = watch_iterations(monkeypatch)
    run("training", TRAIN, output_dir=str(folder), **settings)
    assert {stage for stage, _ in iterations} == {"segmentation"}, "the other stages count as done"
    content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert content["train"]["batch_size"] == 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_one_process_on_a_gpu_trains_with_the_same_overlay(training_settings: dict[str, Any], tmp_path: Path) -> None:
    torchrun(1, "training", tmp_path, training_settings)
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path).values())
