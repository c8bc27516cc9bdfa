"""How the work on a cohort grows with its size: check, slices, queries, batches, tables, the start of a training.

The scans are small and the counts real: 30 organs, some 600 queries a scan. Run from the bundle's folder::

    python -m development.benchmarks.growth --cases 250 1000 2000

The cohort is written, prepared and trained on for one iteration of each stage. `start` is the same command again when
everything is cached, `resume` when all stages are done. Seconds are CPU seconds, of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import torch

from development.benchmarks.phantom_bundle import bundle_config, coarse_maps_of_labels
from development.benchmarks.timing import Stopwatch, verdict
from development.study import comparison
from scripts.dataset.check import check_dataset
from scripts.evaluation import summary
from scripts.queries.attention import maps_on_slices
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.plain_errors import install_plain_errors
from scripts.runtime.running_config import bundle_command

ORGANS = [f"organ_{number}" for number in range(1, 31)]
SHAPE, CELL = (32, 32, 24), 5  # voxels of a scan, and the pixels that an organ has in plane, six in a row
GOAL_EXPONENT, GOAL_SECONDS, GOAL_GIB = 1.1, 60.0, 4.0
BATCHES = 20
TINY: dict[str, Any] = {
    "organs": ORGANS,
    "phases": [],
    "spacing": [3.0, 3.0, 3.0],
    "coarse_spacing": [6.0, 6.0, 6.0],
    "coarse_network::channels": [4, 8, 8, 8],
    "query_planner::patch_size": 32,
    "encoder::name": "resnet18",
    "precision": "float32",
    "coarse::stage::patch_size": [16, 16, 8],
    "coarse::stage::epoch_length": 1,
    "contrastive::epoch_length": 1,
    "train::epoch_length": 1,
    **dict.fromkeys(("coarse::stage::epochs", "coarse::stage::fold_epochs", "contrastive::epochs", "train::epochs"), 1),
}


def write_cohort(folder: Path, cases: int) -> None:
    """Write scans with labels (every organ a column through all slices but the first and last two) and dataset.json."""
    label = np.zeros(SHAPE, np.uint8)
    for number in range(len(ORGANS)):
        x, y = CELL * (number % 6) + 1, CELL * (number // 6) + 1
        label[x : x + CELL - 1, y : y + CELL - 1, 2:-2] = number + 1
    affine, entries = np.diag([-3.0, -3.0, 3.0, 1.0]), []
    for number in range(cases):
        noise = np.random.default_rng(number).normal(40.0, 20.0, SHAPE)
        entries.append({"image": f"scan_{number:05d}.nii.gz", "label": f"label_{number:05d}.nii.gz"})
        nibabel.save(nibabel.Nifti1Image((noise + label).astype(np.int16), affine), folder / entries[-1]["image"])
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / entries[-1]["label"])
    values = {"0": "background", **{str(n): organ for n, organ in enumerate(ORGANS, start=1)}}
    content = {"labels": values, "training": entries[1:], "validation": entries[:1]}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def keep_maps(maps: CoarseMaps, cases: Sequence[Mapping[str, Any]]) -> None:
    """Keep the coarse maps that the label map, the same in all scans, gives."""
    stored = maps.store.open(cases[0])
    if stored.label is None:
        raise ValueError(f"{stored.name} has no label.")
    coarse = coarse_maps_of_labels(stored.label.permute(1, 2, 0), len(ORGANS), maps.segmenter)
    on_slices = (maps_on_slices(coarse, len(stored.label)) * 255).round().to(torch.uint8)
    for case in cases:
        maps.keep(case, on_slices)


def write_scores(folder: Path, cases: int) -> list[str]:
    """Two runs' scores.csv of all cases and organs."""
    rows, paths = cases * len(ORGANS), []
    names = {"case": np.repeat([f"scan_{n:05d}" for n in range(cases)], len(ORGANS)), "organ": ORGANS * cases}
    for run in ("one", "other"):
        dice = np.random.default_rng(len(run)).uniform(0.5, 1.0, rows)
        metrics = {"class_index": [*range(1, len(ORGANS) + 1)] * cases, "status": "found", "dice": dice}
        more = {"hd95_mm": 10 * dice, "surface_dice": dice, "reference_ml": 1.0, "prediction_ml": 1.0}
        paths.append(str(folder / f"{run}.csv"))
        pd.DataFrame({**names, **metrics, **more}).to_csv(paths[-1], index=False)
    return paths


def steps_of(folder: Path, cases: int) -> dict[str, float]:
    """CPU seconds of the parts of a training, and of the tables of its scores, in this process."""
    places = {"dataset_dir": str(folder), "output_dir": str(folder / "run")}
    parser = bundle_config(settings={**TINY, **places})
    splits = {
        "training": parser.get_parsed_content("train_cases"),
        "validation": parser.get_parsed_content("validation_cases"),
    }
    watch, stamp = Stopwatch(torch.device("cpu")), str(folder / "stamp.json")
    for part in ("dataset check", "check, nothing changed"):
        with watch.part(part):
            check_dataset(splits, ORGANS, stamp=stamp, progress=False)
    maps = parser.get_parsed_content("coarse_maps")
    with watch.part("slices"):
        maps.store.prepare(splits["training"])
    with watch.part("maps kept"):
        keep_maps(maps, splits["training"])
    for part in ("queries planned", "queries, planned before"):
        batches = bundle_config(settings={**TINY, **places}).get_parsed_content("train::dataset")
        with watch.part(part):
            _ = batches.index
    with watch.part(f"{BATCHES} batches"):
        for number in range(BATCHES):
            batches.batch(number, batches.generator(number))
    paths = write_scores(folder, cases)
    with watch.part("study tables"):
        summary.main([*paths, "--names", "one", "other"])
        comparison.main([*paths, "--names", "one", "other", "--by_organ"])
    return watch.cpu


def run_measured(arguments: Sequence[str], log: Path) -> dict[str, float]:
    """CPU and wall-clock seconds and peak memory (GiB) of a Python process."""
    began, environment = time.perf_counter(), {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(log, "w", encoding="utf-8") as stream:
        process = subprocess.Popen([sys.executable, *arguments], stdout=stream, stderr=stream, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{log.read_text(encoding='utf-8')[-3000:]}")
    wall = time.perf_counter() - began
    return {"cpu": used.ru_utime + used.ru_stime, "wall": wall, "peak": used.ru_maxrss / 2**20}


def measured(cases: int) -> dict[str, float]:
    """All rows of the table for one number of cases, each of their processes begun anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, cases)
        steps = ["-m", __spec__.name, "--steps_in", name, "--cases", str(cases)]
        peak = run_measured(steps, folder / "steps.log")["peak"]
        lines = (folder / "steps.log").read_text(encoding="utf-8").splitlines()
        rows: dict[str, float] = {**json.loads(lines[-1]), "steps so far, GiB": peak}
        settings = {**TINY, "dataset_dir": name, "output_dir": str(folder / "run")}
        training = bundle_command("training", ["configs/train.yaml", "configs/data/abdomen.yaml"], **settings)
        for title in ("first training", "start", "resume"):
            found = run_measured(training, folder / "training.log")
            rows |= {title: found["cpu"], f"{title}, wall": found["wall"], f"{title}, GiB": found["peak"]}
            if title == "first training":
                for stage in ("contrastive", "segmentation", "model"):
                    (folder / "run" / f"{stage}.pt").unlink()
    return rows


def print_table(sizes: Sequence[int], columns: Sequence[Mapping[str, float]]) -> None:
    """Print a row for each step, with the exponent of its growth from the smallest to the largest cohort."""
    print(f"{'CPU s, or as said':<24}" + "".join(f"{cases:>9}" for cases in sizes) + f"{'exponent':>10}")
    worst = -math.inf
    for row in columns[0]:
        values = [column[row] for column in columns]
        exponent = math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else math.nan
        worst = max(worst, exponent)
        print(f"{row:<24}" + "".join(f"{value:>9.2f}" for value in values) + f"{exponent:>10.2f}")
    last = columns[-1]
    print(f"largest exponent: {worst:.2f} ({verdict(worst, GOAL_EXPONENT, smaller=True)})")
    print(f"start: {last['start']:.0f} CPU s ({verdict(last['start'], GOAL_SECONDS, smaller=True)})")
    print(f"start: {last['start, GiB']:.2f} GiB ({verdict(last['start, GiB'], GOAL_GIB, smaller=True)})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m development.benchmarks.growth", description=__doc__)
    parser.add_argument("--cases", type=int, nargs="+", default=[250, 1000, 2000], help="sizes of the cohort, growing")
    parser.add_argument("--steps_in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.steps_in:
        print(json.dumps(steps_of(options.steps_in, options.cases[0])))
        return
    columns = []
    for cases in options.cases:
        columns.append(measured(cases))
        print(f"{cases} cases: {json.dumps(columns[-1])}", file=sys.stderr, flush=True)
    print_table(options.cases, columns)


if __name__ == "__main__":
    install_plain_errors()
    main()
