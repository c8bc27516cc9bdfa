"""One run, from nothing or from where it was stopped, to its stored results."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from development.study.composition import ROOT, Places, commands_of, composed, configs_of, settings_of, write_settings
from development.study.costs import stage_costs
from development.study.iou_table import pixel_counts
from development.study.plan import COARSE_STAGE, Plan, Run
from development.study.results import Results
from scripts.evaluation.summary import read_scores
from scripts.files.atomic_write import replacing
from scripts.runtime.resume import load_checkpoint, save_atomically

LOG, MAPS = "log.txt", "coarse_maps"
TAIL = 15
"""Lines of a failed command's log that are shown."""
RAISED_FROM_IT = "The above exception was the direct cause of the following exception:"
"""What Python prints between an error and the one that was raised from it."""
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy")


class RunFailed(RuntimeError):
    """A command of the bundle ended with an error; the message has the part of its log that says which."""


def carry_out(plan: Plan, run: Run, places: Places, results: Results, num_labelled: int) -> None:
    """Train and evaluate a run whose needs are done, store its results, and remove the checkpoints it needs no more.

    Raises:
        RunFailed: a command failed; started again, the run goes on where it was.
    """
    folder, arm, began = places.folder(run), plan.arms[run.arm], time.monotonic()
    settings = settings_of(plan, run, num_labelled, places.extra)
    write_settings(folder, settings, composed(plan, run.arm))
    if arm.coarse == "shared" and not arm.members:
        share_coarse_stage(places.folder(plan.run_of(COARSE_STAGE, run.regime, run.labelled, run.seed)), folder)
    for name, command in commands_of(plan, run, places).items():
        run_logged(folder, name, command, places.threads)
    stages = {} if arm.members else stage_costs(folder)
    for needed in plan.needs(run):  # done, and their records outlast their checkpoints
        for name, stage in results.records[needed.name]["stages"].items():
            other = stages.get(name, stage) != stage  # of another member, which has trained its own
            stages[f"{name}_{needed.arm}" if other else name] = stage
    record = record_of(plan, run, settings, stages, time.monotonic() - began)
    if run.arm == COARSE_STAGE:
        record["coarse_recall"] = json.loads((folder / "coarse_recall.json").read_text(encoding="utf-8"))
    photographs = (folder / "evaluation/iou.csv").exists()
    counts = pixel_counts(folder / "evaluation", record["training_core_seconds"]) if photographs else None
    results.add(record, read_scores(folder / "evaluation/scores.csv") if counts is None else counts)
    if not places.keep_checkpoints:
        drop_checkpoints(folder, maps=run.arm != COARSE_STAGE)


def record_of(
    plan: Plan, run: Run, settings: dict[str, Any], stages: dict[str, dict[str, float]], wall_seconds: float
) -> dict[str, Any]:
    """What a run was and what it cost: its line in the results."""
    arm = plan.arms[run.arm]
    return {
        "run": run.name,
        **{"arm": run.arm, "regime": run.regime, "labelled": run.labelled, "seed": run.seed},
        **{"title": arm.title, "members": list(arm.members), "configs": configs_of(plan, run.arm)},
        "settings": settings,
        "stages": stages,
        "training_core_seconds": round(sum(stage["core_seconds"] for stage in stages.values()), 1),
        "wall_seconds": round(wall_seconds, 1),
        **environment(),
    }


def share_coarse_stage(source: Path, folder: Path) -> None:
    """Give a run the finished coarse stage of its group: checkpoints, maps and recall, as hard links where possible.

    All of these files are only ever replaced, never changed, so a link is as good as a copy.
    """
    for file in [*source.glob("coarse*.pt"), *source.glob(f"{MAPS}/*.npy"), source / "coarse_recall.json"]:
        target = folder / file.relative_to(source)
        if not target.exists():
            with replacing(target) as temporary:
                try:
                    os.link(file, temporary)
                except OSError:  # another file system, or one without links
                    shutil.copy2(file, temporary)


def drop_checkpoints(folder: Path, maps: bool) -> None:
    """Remove what only a training that goes on would need; of the contrastive stage the network is kept.

    With `maps` the coarse maps are removed too; leave it out for maps that other arms begin with.
    """
    (folder / "segmentation.pt").unlink(missing_ok=True)
    if maps:
        shutil.rmtree(folder / MAPS, ignore_errors=True)
    contrastive = folder / "contrastive.pt"
    if contrastive.exists():
        content = load_checkpoint(contrastive)
        kept = ("epoch", "seconds", "core_seconds", "peak_mib", "network")
        save_atomically({key: content[key] for key in kept}, contrastive)


def run_logged(folder: Path, name: str, command: Sequence[str], threads: int) -> None:
    """Run a command of the bundle with its output in the run's log.

    Raises:
        RunFailed: it ended with an error.
    """
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environ = {"OMP_WAIT_POLICY": "passive", **os.environ, **limits}
    with (folder / LOG).open("a", encoding="utf-8") as log:
        start = log.tell()
        code = subprocess.run(command, cwd=ROOT, env=environ, stdout=log, stderr=log, check=False).returncode
    if code:
        printed = (folder / LOG).read_bytes()[start:].decode(errors="replace")
        raise RunFailed(f"{name} in {folder} failed with exit status {code}; from its log:\n{first_error(printed)}")


def first_error(printed: str) -> str:
    """The last lines of an output, or those up to its first error where MONAI raised others from that one."""
    lines = printed.partition(RAISED_FROM_IT)[0].rstrip().splitlines()[-TAIL:]
    return "\n".join(f"    {line}" for line in lines)


def environment() -> dict[str, Any]:
    """Device, versions and commit of the code."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text(errors="replace")) if cpuinfo.exists() else None
    processor = model[1] if model else platform.processor() or platform.machine()
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=40"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "revision": git.stdout.strip() or None,
    }
