"""Training, inference and evaluation by torchrun with two processes, of which one may be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml
from config_compositions import INFERENCE, ROOT
from tiny_bundle import make_bundle
from tiny_workflows import ABDOMEN, EVALUATE, STAGES, TRAIN, run, watch_iterations, weights

MULTI_GPU = "configs/variants/multi_gpu.yaml"
PATIENCE_S = 600.0

needs_gloo = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")


def started(
    processes: int, run_id: str, folder: Path, settings: dict[str, Any], *files: str, **environment: str
) -> subprocess.Popen[str]:
    """Start the bundle by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    command += ["-m", "monai.bundle", "run", run_id]
    command += ["--config_file", str(list(files)), "--output_dir", str(folder)]
    for name, value in settings.items():
        command += [] if name == "device" else [f"--{name}", str(value)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def torchrun(processes: int, run_id: str, folder: Path, settings: dict[str, Any], **environment: str) -> str:
    """Run the training by torchrun and return what it printed."""
    running = started(processes, run_id, folder, settings, TRAIN, MULTI_GPU, **environment)
    printed = running.communicate(timeout=PATIENCE_S)[0]
    assert running.returncode == 0, printed[-4000:]
    return printed


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


@pytest.fixture
def scans(tiny_data: Path, tmp_path: Path) -> Path:
    """Twelve scans, of which two cannot be read."""
    images = sorted((tiny_data / "images").glob("*.nii.gz"))
    (tmp_path / "scans").mkdir()
    for number in range(10):
        shutil.copy(images[number % len(images)], tmp_path / f"scans/scan_{number}.nii.gz")
    for name in ("a_bad", "z_bad"):
        (tmp_path / f"scans/{name}.nii.gz").write_bytes(b"not a scan")
    return tmp_path / "scans"


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*_seg.nii.gz")}


@pytest.mark.slow
def test_a_process_of_an_inference_is_killed_and_the_same_command_does_what_is_left(
    scans: Path, tmp_path: Path
) -> None:
    bundle, out = make_bundle(tmp_path / "bundle"), tmp_path / "out"
    settings = {**bundle.settings, "dataset_dir": str(scans)}
    running = started(2, "inference", out, settings, INFERENCE, CUDA_VISIBLE_DEVICES="")
    while not times(out):
        assert running.poll() is None
        time.sleep(0.02)
    workers = subprocess.check_output(["pgrep", "-P", str(running.pid)], encoding="utf-8").split()
    os.kill(int(workers[0]), signal.SIGKILL)
    assert "SIGKILL" in running.communicate(timeout=PATIENCE_S)[0] and running.returncode == 1
    before = times(out)
    assert 0 < len(before) < 10

    running = started(2, "inference", out, settings, INFERENCE, CUDA_VISIBLE_DEVICES="")
    printed = running.communicate(timeout=PATIENCE_S)[0]
    assert printed.count("error: 2 of 12 scans failed:\n  a_bad: ") == 1 and running.returncode == 1
    after = times(out)
    assert len(after) == 10 and before.items() <= after.items(), "what was done is left as it is"
    assert sorted(path.name for path in out.iterdir() if path.name not in after) == ["manifest.json"]
    entries = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["cases"]
    assert sorted(name for name, entry in entries.items() if entry["finished"]) == [f"scan_{n}" for n in range(10)]


@pytest.mark.slow
def test_two_processes_write_the_scores_that_one_writes(tiny_data: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", organs=ABDOMEN["organs"])
    settings = {**bundle.settings, "dataset_dir": str(tiny_data), "split": "training"}
    running = started(2, "evaluate", tmp_path / "two", settings, EVALUATE, CUDA_VISIBLE_DEVICES="")
    printed = running.communicate(timeout=PATIENCE_S)[0]
    assert running.returncode == 0, printed[-4000:]
    # A process that joins when the other is done already reports the same once more.
    assert len({line.strip() for line in printed.splitlines() if line.startswith("| macro mean")}) == 1, printed[-4000:]
    run("evaluate", EVALUATE, output_dir=str(tmp_path / "one"), **settings)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in (name for name in names if name.endswith((".csv", "summary.json"))):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_one_process_on_a_gpu_trains_with_the_same_overlay(training_settings: dict[str, Any], tmp_path: Path) -> None:
    torchrun(1, "training", tmp_path, training_settings)
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path).values())
