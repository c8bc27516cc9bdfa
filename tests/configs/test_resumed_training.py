"""A training that was stopped anywhere ends with the weights of one that was not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from config_compositions import ROOT
from tiny_workflows import ITERATIONS, STAGES, TRAIN, run, same_weights, watch_iterations

PATIENCE_S = 120.0


class PowerCut(KeyboardInterrupt):
    """Stops a run as Ctrl-C does: no handler of the engine may treat it as an error of its own."""


def stop_after(
    stage: str, iteration: int, settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train until an iteration of a stage is over, and no further."""

    def cut(current: str, count: int) -> None:
        if (current, count) == (stage, iteration):
            raise PowerCut

    with monkeypatch.context() as patch:
        watch_iterations(patch, cut)
        with pytest.raises(PowerCut):
            run("training", TRAIN, output_dir=str(folder), **settings)


def resume(settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Start the same command again; return the iterations that it ran."""
    with monkeypatch.context() as patch:
        iterations = watch_iterations(patch)
        run("training", TRAIN, output_dir=str(folder), **settings)
    return iterations


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_stopped_in_a_stage_goes_on_from_its_last_epoch_to_the_same_weights(
    stage: str, trained: Path, training_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(stage, ITERATIONS - 1, training_settings, tmp_path, monkeypatch)
    iterations = resume(training_settings, tmp_path, monkeypatch)
    # The first of the two epochs is not run again, nor are the stages before.
    later = [(name, n) for name in STAGES[STAGES.index(stage) + 1 :] for n in range(1, ITERATIONS + 1)]
    assert iterations == [(stage, ITERATIONS - 1), (stage, ITERATIONS), *later]
    assert same_weights(trained, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["contrastive", "segmentation"])
def test_a_run_stopped_before_the_first_checkpoint_of_a_stage_draws_the_same_initial_weights(
    stage: str, trained: Path, training_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(stage, 1, training_settings, tmp_path, monkeypatch)
    assert not (tmp_path / f"{stage}.pt").exists()
    resume(training_settings, tmp_path, monkeypatch)
    assert same_weights(trained, tmp_path)


def assert_reads_well(log: str) -> None:
    """One line per epoch with the time left, and none of the noise of the libraries."""
    for stage in ("coarse_fold0", "coarse_fold1", "coarse"):
        # Not anchored: a bar on stderr may share the line with what stdout says.
        assert len(re.findall(rf"\d\d:\d\d:\d\d INFO    {stage}: epoch \d of 2, loss .* left", log)) == 2, log
    for noise in ("ignite", "Engine run", "Setting affine", "requires_grad", "UserWarning", "ERROR"):
        assert noise not in log


@pytest.mark.slow
def test_a_killed_process_leaves_a_folder_from_which_the_same_command_goes_on(
    trained: Path, training_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", "configs/train.json"]
    for name, value in {**training_settings, "output_dir": str(folder)}.items():
        command += [f"--{name}", f"$torch.device('{value}')" if name == "device" else str(value)]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "contrastive.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert process.returncode == -signal.SIGKILL, text
    assert_reads_well(text)
    assert not (folder / "model.pt").exists()
    iterations = resume(training_settings, folder, monkeypatch)
    assert {stage for stage, _ in iterations} <= {"contrastive", "segmentation"}
    assert same_weights(trained, folder)
