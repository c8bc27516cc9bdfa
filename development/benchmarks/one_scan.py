"""Segment the scan with one candidate in a process of its own and print what it took, as JSON.

A process of its own, because the peak memory of a process never falls again. ``beside_others`` starts this;
by hand it is of little use.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import torch
from torch import Tensor

from development.benchmarks.candidates import CANDIDATES, Candidate, Settings
from development.benchmarks.timing import Stopwatch, peak_memory

STEPS = ("read", "network", "back")


def die_first() -> None:
    """Tell Linux to end this process, and no other, should memory run out."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000", encoding="ascii")


def segment(candidate: Candidate, scan: Path, watch: Stopwatch) -> Tensor:
    """Label map [1, i, j, k] on the scan's grid, on the CPU."""
    with watch.part("read"):
        item = candidate.preprocessing({"image": str(scan), "case": "scan"})
    with watch.part("network"):
        item["pred"] = candidate.inferer(item["image"][None].to(watch.device), candidate.network)[0]
    with watch.part("back"):
        labels: Tensor = candidate.postprocessing(item)["pred"].to("cpu", torch.uint8)
    return labels


def measured(name: str, settings: Settings, scan: Path) -> dict[str, Any]:
    """Seconds of the steps (wall-clock), of all in CPU time, units asked, and bytes of memory before and at most.

    Raises:
        ValueError: the labels are not on the scan's grid.
    """
    device = torch.device(settings.device)
    torch.manual_seed(0)
    with torch.no_grad():
        before = peak_memory()
        candidate, watch = CANDIDATES[name](settings), Stopwatch(device)
        if device.type == "cuda":  # the first run chooses kernels
            segment(candidate, scan, watch)
            watch = Stopwatch(device)
        labels = segment(candidate, scan, watch)
    shape = tuple(nibabel.Nifti1Image.from_filename(scan).shape)
    if tuple(labels.shape[1:]) != shape:
        raise ValueError(f"{name} returned labels of shape {tuple(labels.shape[1:])} for a scan of {shape}.")
    runs = 2 if device.type == "cuda" else 1
    on_gpu = {"before": 0, "peak": torch.cuda.max_memory_allocated()} if device.type == "cuda" else {}
    return {
        **{step: watch.wall[step] for step in STEPS},
        "total": sum(watch.wall.values()),
        "cpu": sum(watch.cpu.values()),
        "asked": sum(candidate.passes) // runs,
        "unit": candidate.unit,
        "before": before,
        "peak": peak_memory(),
        **on_gpu,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one candidate."""
    parser = argparse.ArgumentParser(prog="python -m development.benchmarks.one_scan", description=__doc__)
    parser.add_argument("scan", type=Path, help="NIfTI file")
    parser.add_argument("candidate", choices=list(CANDIDATES))
    parser.add_argument("--settings", default="{}", help="as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    die_first()
    print(json.dumps(measured(options.candidate, Settings(**json.loads(options.settings)), options.scan)))


if __name__ == "__main__":
    main()
