"""One run from nothing, or from where it was stopped, to its stored results."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from development.study.composition import (
    ROOT,
    Places,
    configs_of,
    evaluation_command,
    settings_of,
    training_command,
    write_settings,
)
from development.study.plan import COARSE_STAGE, Plan, Run
from development.study.record import commands_of, environment, note_command, stage_costs, total, write_json
from development.study.results import read_record
from scripts.files.atomic_write import replacing
from scripts.runtime.resume import load_checkpoint, save_atomically

LOG = "log.txt"
MAPS = "coarse_maps"
"""Folder of a run's coarse maps."""
TAIL = 15
"""Lines of a failed command's log that are shown."""
RAISED_FROM_IT = "The above exception was the direct cause of the following exception:"
"""What Python prints between an error and the one that was raised from it."""


class RunFailed(RuntimeError):
    """A command of the bundle ended with an error; the message has the part of its log that says which."""


def carry_out(plan: Plan, run: Run, places: Places, everybody: int, descriptor: int) -> None:
    """Train and evaluate a run, store its results, and drop the checkpoints that nobody needs again.

    Args:
        plan: the study.
        run: whose needs are done.
        places: folders and threads.
        everybody: number of patients that have labels.
        descriptor: of the claim, held by the commands too.

    Raises:
        RunFailed: a command failed; started again, the run goes on where it was.
    """
    folder, arm = places.folder(run), plan.arms[run.arm]
    settings = settings_of(plan, run, everybody, places.extra)
    write_settings(folder, settings, configs_of(plan, run.arm))
    if arm.coarse == "shared" and not arm.members:
        share_coarse_stage(places.folder(plan.run_of(COARSE_STAGE, run.regime, run.labelled, run.seed)), folder)
    if not arm.members:
        run_logged(folder, "training", training_command(plan, run, places), places.threads, descriptor)
    run_logged(folder, "evaluation", evaluation_command(plan, run, places), places.threads, descriptor)
    store(plan, run, places, settings)
    if not places.keep_checkpoints:
        drop_checkpoints(folder, maps=run.arm != COARSE_STAGE)


def share_coarse_stage(source: Path, folder: Path) -> None:
    """Give a run the finished coarse stage of its group: checkpoints, maps and recall, as hard links where possible.

    All of these files are only ever replaced, never changed, so a link is as good as a copy.
    """
    files = [*source.glob("coarse*.pt"), *source.glob(f"{MAPS}/*.npy"), source / "coarse_recall.json"]
    for file in files:
        target = folder / file.relative_to(source)
        if not target.exists():
            with replacing(target) as temporary:
                try:
                    os.link(file, temporary)
                except OSError:  # another file system, or one without links
                    shutil.copy2(file, temporary)


def store(plan: Plan, run: Run, places: Places, settings: dict[str, Any]) -> None:
    """Keep the scores and the record of a run; the record last, since it says that the run is done."""
    folder, results = places.folder(run), places.results(run)
    for source, name in ((folder / "evaluation/scores.csv", "scores.csv"), (folder / "coarse_recall.json", None)):
        if source.exists() and (name is not None or run.arm == COARSE_STAGE):
            with replacing(results / (name or source.name)) as temporary:
                shutil.copyfile(source, temporary)
    write_json(results / "run.json", record_of(plan, run, places, settings))


def record_of(plan: Plan, run: Run, places: Places, settings: dict[str, Any]) -> dict[str, Any]:
    """Content of run.json.

    `stages` are those that led to the scored weights, the shared coarse stage among them. `other_core_seconds` is what
    their commands cost besides: starting, checking the data, coarse maps of the training patients.
    """
    arm, folder = plan.arms[run.arm], places.folder(run)
    own = commands_of(folder)
    # Those that this run needs are done, and their records outlast their checkpoints.
    before = [read_record(places.results(needed)) for needed in plan.needs(run)]
    stages = {name: costs for record in before for name, costs in record["stages"].items()} | stage_costs(folder)
    in_stages = sum(stage["core_seconds"] for stage in stages.values())
    new_in_stages = in_stages - sum(float(record["training_core_seconds"]) for record in before)
    besides = total(own, "training", "core_seconds") - new_in_stages
    other = max(0.0, besides) + sum(float(record["other_core_seconds"]) for record in before)
    return {
        "arm": run.arm,
        "title": arm.title,
        "members": list(arm.members),
        "regime": run.regime,
        "labelled": run.labelled,
        "seed": run.seed,
        "configs": configs_of(plan, run.arm),
        "settings": settings,
        "stages": stages,
        "training_core_seconds": round(in_stages, 1),
        "other_core_seconds": round(other, 1),
        "evaluation_core_seconds": total(own, "evaluation", "core_seconds"),
        "wall_seconds": round(sum(float(one["wall_seconds"]) for one in own), 1),
        "peak_memory_mib": max((stage["peak_memory_mib"] for stage in stages.values()), default=0.0),
        "threads": places.threads,
        **environment(),
    }


def drop_checkpoints(folder: Path, maps: bool) -> None:
    """Remove what only a training that goes on would need; of the contrastive stage the network is kept.

    Args:
        folder: of the run.
        maps: drop the coarse maps too, about 1 GiB with few labels; not those that other arms begin with.
    """
    (folder / "segmentation.pt").unlink(missing_ok=True)
    if maps:
        shutil.rmtree(folder / MAPS, ignore_errors=True)
    contrastive = folder / "contrastive.pt"
    if contrastive.exists():
        content = load_checkpoint(contrastive)
        kept = {key: content[key] for key in ("epoch", "seconds", "core_seconds", "peak_mib", "network")}
        save_atomically(kept, contrastive)


def run_logged(folder: Path, name: str, command: Sequence[str], threads: int, descriptor: int) -> None:
    """Run a command of the bundle with its output in the run's log, and note what it cost.

    Raises:
        RunFailed: it ended with an error.
    """
    before, began = os.times(), time.monotonic()
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environ.setdefault("OMP_WAIT_POLICY", "passive")
    with (folder / LOG).open("a", encoding="utf-8") as log:
        start = log.tell()
        code = subprocess.run(
            command, cwd=ROOT, env=environ, stdout=log, stderr=log, check=False, pass_fds=[descriptor]
        ).returncode
    after = os.times()
    core = after.children_user + after.children_system - before.children_user - before.children_system
    note_command(folder, name, core, time.monotonic() - began)
    if code:
        printed = (folder / LOG).read_bytes()[start:].decode(errors="replace")
        raise RunFailed(f"{name} in {folder} failed with exit status {code}; from its log:\n{first_error(printed)}")


def first_error(printed: str) -> str:
    """The last lines of an output, or those up to its first error where MONAI raised others from that one."""
    lines = printed.partition(RAISED_FROM_IT)[0].rstrip().splitlines()[-TAIL:]
    return "\n".join(f"    {line}" for line in lines)
