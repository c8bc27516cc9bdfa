"""A coarse training step, or the filling of the slice store, in this checkout and in another commit's, in one run.

Each checkout works in a process of its own, and the two take turns. Run from the bundle's folder::

    git worktree add ../before COMMIT
    python -m development.benchmarks.two_commits coarse ../before
    python -m development.benchmarks.two_commits store ../before --cases 30
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

GOALS = {"coarse": 1.4, "store": 3.0}
SPACING = {"coarse": 3.0, "store": 1.5}
"""Pixels of the phantom's scans, in mm; slices are 3 mm apart."""
STORE_SHAPE = (256, 256, 130)

Rounds = Generator[list[list[float]], None, None]


def write_scans(folder: Path, task: str, cases: int) -> None:
    """Write phantom scans with labels, those of the store filled or cut to its shape, and cases.json."""
    import nibabel
    import numpy as np

    from development.benchmarks.phantom_volume import in_plane
    from development.phantom.anatomy import make_phantom_case
    from development.phantom.tissues import HOUNSFIELD_AIR

    listed = []
    for number in range(cases):
        case = make_phantom_case(0, number, (SPACING[task],) * 2, (3.0, 3.0))
        listed.append({"case": f"scan{number}"})
        for key, voxels, fill in (("image", case.image, HOUNSFIELD_AIR), ("label", case.label, 0)):
            if task == "store":
                chosen = np.arange(STORE_SHAPE[2]) * voxels.shape[2] // STORE_SHAPE[2]
                voxels = in_plane(voxels[:, :, chosen], STORE_SHAPE[0], fill)
            listed[-1][key] = str(folder / f"{key}{number}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(voxels, case.affine), listed[-1][key])
    (folder / "cases.json").write_text(json.dumps(listed), encoding="utf-8")


class Turns:
    """What a process that works says: a turn begins when a line comes in and ends with a line of its CPU seconds."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # where libraries print
        self.start = 0.0

    def begin(self) -> None:
        """Wait for one's turn; there is none when the other process hung up."""
        if not sys.stdin.readline():
            os._exit(0)
        self.start = time.process_time()

    def end(self, result: float = 0.0) -> None:
        """Say what the turn took and what came of it."""
        print(json.dumps([time.process_time() - self.start, result]), file=self.answers, flush=True)


def fill_stores(folder: Path, turns: Turns, options: Mapping[str, Any]) -> None:
    """Fill a slice store, again and again."""
    from development.phantom.tissues import ORGANS
    from scripts.preprocessing.slice_store import SliceStore

    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    while True:
        cache = tempfile.mkdtemp(dir=folder)
        turns.begin()
        SliceStore(ORGANS, options["spacing"], cache, workers=options["threads"]).prepare(cases)
        turns.end()
        shutil.rmtree(cache)


def train_coarse(folder: Path, turns: Turns, options: Mapping[str, Any]) -> None:
    """Train the coarse stage of the default config; the result of a turn is its loss."""
    import torch
    from ignite.engine import Events
    from monai.bundle import ConfigParser

    from development.phantom.tissues import ORGANS

    crossfit: Any = importlib.import_module("scripts.coarse.crossfit")
    made = crossfit.stage_trainer
    parser = ConfigParser()
    parser.read_config("configs/train.yaml")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    stage = {"folds": 1, "epochs": 1, "epoch_length": options["repeats"] + 2}
    parser.update({f"coarse::stage::{name}": value for name, value in stage.items()})
    parser.update({"device": "cpu", "organs": list(ORGANS[: options["organs"]]), "train_cases": cases})
    parser.update({"output_dir": tempfile.mkdtemp(dir=folder)})

    def watched(*arguments: Any, **settings: Any) -> Any:
        trainer = made(*arguments, **settings)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, turns.begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: turns.end(float(trainer.state.output["loss"])))
        return trainer

    crossfit.stage_trainer = watched
    torch.manual_seed(0)
    parser.get_parsed_content("coarse::stage").run()


TASKS = {"coarse": train_coarse, "store": fill_stores}


def take_turns(checkouts: Sequence[str], folder: Path, options: Mapping[str, Any]) -> Rounds:
    """CPU seconds and result of a turn of each checkout, endlessly."""
    processes = []
    for checkout in checkouts:
        command = [sys.executable, __file__, json.dumps(options), str(folder)]
        environment = {**os.environ, "PYTHONPATH": checkout, "OMP_NUM_THREADS": str(options["threads"])}
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=checkout, env=environment, text=True, stdin=pipe, stdout=pipe)
        processes.append((process, process.stdin, process.stdout))
    try:
        while True:
            found = []
            for _, turn, answer in processes:
                print(file=turn, flush=True)
                found.append(json.loads(answer.readline() if answer else ""))
            yield found
    finally:
        for process, *_ in processes:
            process.communicate()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the medians of both checkouts and their ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m development.benchmarks.two_commits",
        description="Compare this checkout with another commit's.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("before", type=Path, help="folder of the other commit")
    parser.add_argument("--repeats", type=int, default=15, help="timed rounds, of which the median counts")
    parser.add_argument("--cases", type=int, default=3, help="synthetic scans")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; of the store: scans side by side")
    parser.add_argument("--organs", type=int, default=7, help="of the coarse stage")
    parser.add_argument("--spacing", type=float, nargs=3, default=[3.0, 3.0, 3.0], help="of the store's grid, in mm")
    options = parser.parse_args(arguments)
    from development.benchmarks.timing import verdict

    here = Path(__file__).resolve().parents[2]
    settings = {**vars(options), "before": str(options.before.resolve())}
    with tempfile.TemporaryDirectory() as folder:
        write_scans(Path(folder), options.task, options.cases)
        turns = take_turns([settings["before"], str(here)], Path(folder), settings)
        rounds = [next(turns) for _ in range(1 + options.repeats)]
        turns.close()
    before, now = (statistics.median(found[which][0] for found in rounds[1:]) for which in (0, 1))
    results = ", ".join(f"{value:.4f}" for _, value in rounds[-1])
    print(f"{options.task}: before {before:.3f}, now {now:.3f} CPU seconds; last results {results}")
    print(f"before / now: {before / now:.2f} ({verdict(before / now, GOALS[options.task])})")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        given = json.loads(sys.argv[1])
        TASKS[given["task"]](Path(sys.argv[2]), Turns(), given)
    else:
        main()
