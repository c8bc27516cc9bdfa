"""The demo: its commands fit together, it stops at the first failure, and it can be started again."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any

import pytest

from development.demo import ROOT, main, release_command, steps
from development.release.__main__ import build_parser


def test_every_step_names_files_that_exist() -> None:
    for _, command in steps("data/phantom", "runs/demo"):
        if "--config_file" in command:
            named = command[command.index("--config_file") + 1]
            files = ast.literal_eval(named) if named.startswith("[") else [named]
            assert len(files) <= 2 and all((ROOT / name).is_file() for name in files)


def test_the_weights_that_training_writes_are_the_ones_that_are_used() -> None:
    for _, command in steps("data", "run"):
        if "run" in command and "training" not in command:
            assert command[command.index("--run_dir") + 1] == "run"


def test_it_stops_at_the_step_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    started: list[list[str]] = []

    def failing_second(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 3 if len(started) == 2 else 0)

    monkeypatch.setattr(subprocess, "run", failing_second)
    assert main(["--output_dir", str(tmp_path)]) == 3
    assert len(started) == 2
    assert "step 2 (train: coarse, contrastive, segmentation) failed" in capsys.readouterr().out


def test_the_command_that_makes_a_bundle_of_the_result_is_one_of_the_release() -> None:
    options = build_parser().parse_args(release_command("runs/demo")[2:])
    assert options.command == "from_run" and "segmentation" in options.name, "MONAI Label goes by the name"
    assert (ROOT / options.licence).is_file()
