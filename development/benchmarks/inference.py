"""Time per slice and peak memory of whole-volume inference, for volumes of more and more slices.

Every volume is segmented in a process of its own. The weights are random; the coarse network runs, but its answer is
made from the phantom's labels, so that there are as many queries as in a real scan. Run from the bundle's folder::

    python -m development.benchmarks.inference --slices 32 64 128
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from development.benchmarks.phantom_bundle import CONFIGS, QUICK_SETTINGS
from development.benchmarks.phantom_volume import save_case
from development.benchmarks.timing import verdict

GOAL_GROWTH = 1.25
"""Largest ratio of the times per slice that still counts as linear growth on a busy machine."""

WORKING_PIXELS = 200
"""Side of a slice on the working grid of 2 mm: a field of view of 400 mm."""


def measure(folder: Path, threads: int) -> dict[str, float]:
    """CPU seconds of one prepared folder, and memory before and at most (GiB), in a fresh process."""
    command = [sys.executable, "-m", "development.benchmarks.one_volume", str(folder), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CONFIGS.parent, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": found["seconds"], "before": found["before"] / 2**30, "peak": found["peak"] / 2**30}


def growing_volumes(options: argparse.Namespace, settings: Mapping[str, Any], folder: Path) -> None:
    """Print the table over the numbers of slices."""
    side = options.side
    print(f"predictor on {side} x {side} pixels, {options.threads} thread(s), encoder {settings['encoder::name']}")
    print(f"{'slices':>7} {'queries':>8} {'s / slice':>10} {'ms / query':>11} {'peak GiB':>9} {'of it libraries':>16}")
    per_slice = []
    for slices in options.slices:
        queries = save_case(folder / str(slices), (side, side, slices), settings)
        found = measure(folder / str(slices), options.threads)
        per_slice.append(found["seconds"] / slices)
        print(
            f"{slices:>7} {queries:>8} {per_slice[-1]:>10.3f} {1e3 * found['seconds'] / queries:>11.1f} "
            f"{found['peak']:>9.2f} {found['before']:>16.2f}"
        )
    growth = per_slice[-1] / per_slice[0]
    print(f"time per slice, largest / smallest volume: {growth:.2f} ({verdict(growth, GOAL_GROWTH, smaller=True)})")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m development.benchmarks.inference",
        description="Time per slice and peak memory of inference on synthetic volumes with random weights.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[32, 64, 128], help="numbers of slices, growing")
    parser.add_argument("--side", type=int, default=WORKING_PIXELS, help="pixels of a slice on the working grid")
    parser.add_argument("--encoder", default="resnet50", help="resnet50, resnet34 or resnet18")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    options = parser.parse_args(arguments)
    if options.quick:
        options.slices, options.side, options.encoder = [8, 16], 64, "resnet18"
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = parse_arguments(arguments)
    quickly: dict[str, Any] = {**QUICK_SETTINGS, "query_planner::patch_size": 32} if options.quick else {}
    settings = {**quickly, "encoder::name": options.encoder}
    with tempfile.TemporaryDirectory() as folder:
        growing_volumes(options, settings, Path(folder))


if __name__ == "__main__":
    main()
