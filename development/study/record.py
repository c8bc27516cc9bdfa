"""What a run was and what it cost: the content of its run.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from development.study.composition import ROOT
from scripts.files.atomic_write import replacing

COMMANDS = "commands.json"
"""In a run's folder: what every command cost, those that were killed left out."""

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy")


def stage_costs(folder: Path) -> dict[str, dict[str, float]]:
    """Epochs, core-seconds, wall seconds and peak memory of every stage, from the checkpoints of a run folder.

    Core-seconds are those of the training process, all threads together; time lost by a kill is not in them.
    """
    stages: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.pt"), key=lambda path: path.stat().st_mtime):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "epoch" in content:
            stages[path.stem] = {
                "epochs": int(content["epoch"]),
                "core_seconds": round(float(content.get("core_seconds", content.get("seconds", 0.0))), 1),
                "wall_seconds": round(float(content.get("seconds", 0.0)), 1),
                "peak_memory_mib": round(float(content.get("peak_mib", 0.0))),
            }
    return stages


def note_command(folder: Path, name: str, core_seconds: float, wall_seconds: float) -> None:
    """Add what a command cost to the list in the run's folder."""
    noted = commands_of(folder)
    noted.append({"command": name, "core_seconds": round(core_seconds, 1), "wall_seconds": round(wall_seconds, 1)})
    write_json(folder / COMMANDS, noted)


def commands_of(folder: Path) -> list[dict[str, Any]]:
    """What the commands of a run cost so far."""
    path = folder / COMMANDS
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def total(commands: Sequence[Mapping[str, Any]], name: str, key: str) -> float:
    """Seconds of all commands of a name."""
    return round(sum(float(one[key]) for one in commands if one["command"] == name), 1)


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, device and revision of the code."""
    cuda = torch.cuda.is_available() if device is None else device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if cuda else _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "revision": git_revision(),
    }


def git_revision() -> str | None:
    """Commit of the code, with a plus where files were changed since; None outside of a repository."""
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        revision, changed = (
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if changed else "")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    """Name of the processor, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
