"""One scan from its file to the label map on its grid: our predictor beside two bundles of MONAI's zoo, and nnU-Net.

Every run is a process of its own, the candidates taking turns. Run from the bundle's folder::

    python -m development.benchmarks.beside_others --repeats 3
    python -m development.benchmarks.beside_others --candidates two-stage --organs 7 26
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from development.benchmarks.candidates import CANDIDATES, Settings
from development.benchmarks.one_scan import STEPS
from development.benchmarks.phantom_bundle import CONFIGS
from development.benchmarks.phantom_volume import write_fitted_scan, write_phantom_scan
from development.benchmarks.timing import verdict
from scripts.runtime.precision import PRECISIONS, resolve_precision

OURS = "two-stage"
GOALS = {"SwinUNETR": 15.0, "SegResNet": 3.0}
"""How many times as long as ours the others should take on a CPU."""

GOAL_GROWTH = 1.1
"""Largest ratio of the peak memories that still counts as not growing with the number of organs."""

HEADER = (
    f"{'':<11} {'asked':>13} {'read s':>8} {'network s':>10} {'back s':>8} {'total s':>9} {'CPU s':>8} {'peak GiB':>9}"
)


def run(name: str, settings: Settings, scan: Path, threads: int) -> dict[str, Any]:
    """What one candidate takes, in a fresh process whose progress bar is shown.

    Raises:
        RuntimeError: the process failed, with the reason where the system killed it.
    """
    command = [sys.executable, "-m", "development.benchmarks.one_scan", str(scan), name]
    command += ["--settings", json.dumps(asdict(settings)), "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=CONFIGS.parent, check=False)
    if done.returncode != 0:
        killed = ": the system ended it, most likely for want of memory" if done.returncode == -9 else ""
        raise RuntimeError(f"{name} failed with exit status {done.returncode}{killed}.")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(options: argparse.Namespace, settings: Settings, scan: Path) -> dict[str, dict[str, Any]]:
    """Medians of all candidates that did not fail, taken in turns; a line before and after every run."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.candidates}
    for turn in range(options.repeats):
        for name in [name for name in options.candidates if name in found]:
            print(f"round {turn + 1} of {options.repeats}: {name} ...", flush=True)
            try:
                found[name].append(run(name, settings, scan, options.threads))
            except RuntimeError as error:
                print(f"  {error} It is left out.", flush=True)
                del found[name]
                continue
            print(f"  {found[name][-1]['total']:.1f} s, peak {found[name][-1]['peak'] / 2**30:.2f} GiB", flush=True)
    return {name: medians(runs) for name, runs in found.items()}


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median of every figure; what is no time is the same in all runs."""
    return {
        key: value if isinstance(value, str) else statistics.median(run[key] for run in runs)
        for key, value in runs[0].items()
    }


def print_row(name: str, row: Mapping[str, Any]) -> None:
    """Print a candidate's medians."""
    asked = f"{row['asked']:g} {row['unit']}"
    read, network, back = (row[step] for step in STEPS)
    print(
        f"{name:<11} {asked:>13} {read:>8.1f} {network:>10.1f} {back:>8.1f} {row['total']:>9.1f} {row['cpu']:>8.1f} "
        f"{row['peak'] / 2**30:>9.2f}"
    )


def print_ratios(rows: Mapping[str, Mapping[str, Any]], device: str) -> None:
    """Print time and memory of the others as multiples of ours, with the goals of a CPU."""
    for name in [name for name in rows if name != OURS and OURS in rows]:
        time = rows[name]["total"] / rows[OURS]["total"]
        memory = rows[name]["peak"] / rows[OURS]["peak"]
        goal = f" ({verdict(time, GOALS[name])})" if device == "cpu" and name in GOALS else ""
        print(f"{name} / {OURS}: time {time:.1f}{goal}, peak memory {memory:.1f}")


def organs_and_memory(options: argparse.Namespace, settings: Settings, scan: Path) -> None:
    """Print our peak memory with few and with many organs."""
    peaks = []
    for organs in options.organs:
        print(f"{OURS} with {organs} organs ...", flush=True)
        found = run(OURS, replace(settings, organs=organs, model_path=None), scan, options.threads)
        peaks.append(found["peak"])
        print(f"  {found['asked']} queries, {found['total']:.1f} s, peak {peaks[-1] / 2**30:.2f} GiB", flush=True)
    growth = peaks[-1] / peaks[0]
    counts = f"{options.organs[-1]} / {options.organs[0]} organs"
    print(f"peak memory, {counts}: {growth:.2f} ({verdict(growth, GOAL_GROWTH, smaller=True)})")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m development.benchmarks.beside_others",
        description="Time and peak memory of one whole CT scan: our predictor beside SwinUNETR and SegResNet with the "
        "settings of MONAI's model zoo, and nnU-Net (which needs nnunetv2).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES), help="who runs")
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 150], help="voxels of the scan")
    parser.add_argument("--spacing", type=float, nargs=3, default=[0.8, 0.8, 3.0], help="mm, the scan's")
    parser.add_argument("--scan", help="a real CT, resampled to size and spacing, instead of a phantom")
    parser.add_argument("--model_path", help="our weights; without them every organ is queried in every slice")
    parser.add_argument("--config_file", nargs="+", default=["configs/inference.yaml"], help="of our predictor")
    parser.add_argument("--organs", type=int, nargs="*", default=[], help="also our memory with so many organs each")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of all candidates")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of all candidates")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--repeats", type=int, default=1, help="rounds, of which the median counts; 0: only --organs")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    options = parser.parse_args(arguments)
    if options.quick:
        options.size, options.spacing = [40, 40, 12], [8.0, 8.0, 16.0]
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, the ratios, and the memory over the organs."""
    options = parse_arguments(arguments)
    settings = Settings(
        options.device, options.precision, options.quick, options.model_path, tuple(options.config_file)
    )
    shown = " x ".join(map(str, options.size)), " x ".join(f"{mm:g}" for mm in options.spacing)
    precision = str(resolve_precision(torch.device(options.device), options.precision)).removeprefix("torch.")
    print(f"one CT of {shown[0]} voxels of {shown[1]} mm, {options.device}, {precision}, {options.threads} thread(s)")
    print(f"{OURS}: {options.model_path or 'random weights, every organ queried in every slice'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii"
        if options.scan:
            write_fitted_scan(scan, options.scan, options.size, options.spacing)
        else:
            write_phantom_scan(scan, options.size, options.spacing)
        rows = compare(options, settings, scan) if options.repeats else {}
        print(HEADER)
        for name, row in rows.items():
            print_row(name, row)
        print_ratios(rows, options.device)
        if options.organs:
            organs_and_memory(options, settings, scan)


if __name__ == "__main__":
    main()
