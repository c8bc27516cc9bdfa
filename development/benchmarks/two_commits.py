"""A coarse training step and the slice store: this checkout beside another commit's, in one run.

Each checkout works in a process of its own, and the two take turns. Run from the bundle's folder::

    git worktree add ../before COMMIT
    python -m development.benchmarks.two_commits coarse --against ../before
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PHANTOM_SPACING = {"coarse": ((3.0, 3.0), (3.0, 3.0)), "store": ((1.5, 1.5), (3.0, 3.0))}
"""Smallest and largest pixel and slice distance of the scans, in mm."""

Said = Callable[[Mapping[str, float]], None]


def write_scans(folder: Path, task: str, cases: int, shape: Sequence[int] | None) -> None:
    """Write phantom scans with labels, cut or filled to a shape, and cases.json."""
    import nibabel
    import numpy as np

    from development.benchmarks.phantom_volume import in_plane
    from development.phantom.anatomy import make_phantom_case
    from scripts.preprocessing.working_grid import HOUNSFIELD_AIR

    listed = []
    for number in range(cases):
        case = make_phantom_case(0, number, *PHANTOM_SPACING[task])
        listed.append({"case": f"scan{number}"})
        for key, voxels, fill in (("image", case.image, HOUNSFIELD_AIR), ("label", case.label, 0)):
            if shape:
                chosen = np.arange(shape[2]) * voxels.shape[2] // shape[2]
                voxels = in_plane(voxels[:, :, chosen], shape[0], fill)
            path = folder / f"{key}{number}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(voxels[::-1, ::-1], np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.affine), path)
            listed[-1][key] = str(path)
    (folder / "cases.json").write_text(json.dumps(listed), encoding="utf-8")


def fill_stores(folder: Path, say: Said, options: Mapping[str, Any]) -> None:
    """Fill a slice store, again and again."""
    from development.phantom.tissues import ORGANS
    from scripts.preprocessing.slice_store import SliceStore

    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    while True:
        cache = tempfile.mkdtemp(dir=folder)
        say({})
        SliceStore(ORGANS, options["spacing"], cache, workers=options["threads"]).prepare(cases)
        say({"sum": 0.0})
        shutil.rmtree(cache)


def train_coarse(folder: Path, say: Said, options: Mapping[str, Any]) -> None:
    """Train the coarse stage of the default config."""
    from monai.bundle import ConfigParser

    from development.phantom.tissues import ORGANS
    from scripts.coarse import crossfit

    parser = ConfigParser()
    parser.read_config("configs/train.yaml")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    run = tempfile.mkdtemp(dir=folder)
    parser.update(
        {
            "device": "cpu",
            "organs": list(ORGANS[: options["organs"]]),
            "train_cases": cases,
            "output_dir": run,
            "coarse::stage::folds": 1,
            "coarse::stage::epochs": 1,
            "coarse::stage::epoch_length": options["repeats"] + 1,
        }
    )
    made = crossfit.stage_trainer

    def watched(*arguments: Any, **keywords: Any) -> Any:
        from ignite.engine import Events

        trainer = made(*arguments, **keywords)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda: say({}))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: say({"loss": trainer.state.output["loss"].item()}))
        return trainer

    crossfit.stage_trainer = watched
    import torch

    torch.manual_seed(0)
    parser.get_parsed_content("coarse::stage").run()


TASKS = {"coarse": train_coarse, "store": fill_stores}


def work(task: str, folder: Path, options: Mapping[str, Any]) -> None:
    """Do a task step by step: each begins when a line comes in and ends with a line of CPU seconds."""
    import torch

    torch.set_num_threads(options["threads"])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    begun = [0.0]

    def say(found: Mapping[str, float]) -> None:
        if found:
            print(json.dumps({"seconds": time.process_time() - begun[0], **found}), file=answers, flush=True)
        elif not sys.stdin.readline():
            os._exit(0)
        else:
            begun[0] = time.process_time()

    TASKS[task](folder, say, options)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
