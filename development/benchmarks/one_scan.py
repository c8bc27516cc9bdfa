"""Segment the scan with one candidate in a process of its own and print what it took, as JSON.

A process of its own, because the peak memory of a process never falls again. ``beside_others`` starts this. By hand,
``--floors`` prints where the time of our predictor goes, beside what the machine's rates allow (a missing scan is made
of a phantom)::

    python -m development.benchmarks.one_scan ct.nii.gz two-stage --threads 1 --floors
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from development.benchmarks.candidates import CANDIDATES, Candidate, Settings
from development.benchmarks.phantom_volume import write_phantom_scan
from development.benchmarks.timing import Stopwatch, interleaved_medians, peak_memory
from scripts.coarse.cpu_training import keep_freed_memory
from scripts.outputs.scan_outputs import write_labels
from scripts.runtime.plain_errors import install_plain_errors

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


def rates() -> tuple[float, float]:
    """What this machine does in a second: operations of a float32 matrix product, and bytes of a copy, both ways."""
    matrix, block = torch.rand(1536, 1536), torch.zeros(2**26)
    target = torch.empty_like(block)
    seconds = interleaved_medians({"matrix": lambda: matrix @ matrix, "copy": lambda: target.copy_(block)}, repeats=5)
    return 2 * 1536**3 / seconds["matrix"], 2 * 4 * block.numel() / seconds["copy"]


def work_of(network: nn.Module, shapes: Sequence[torch.Size]) -> tuple[float, float]:
    """Operations of a network on inputs of these shapes, and the bytes that its convolutions read and write."""
    empty, moved = copy.deepcopy(network).to("meta"), [0]
    empty._forward_hooks.clear()
    empty._forward_pre_hooks.clear()

    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        moved.append(4 * (inputs[0].numel() + output.numel()))

    for module in empty.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(add)
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            empty(torch.empty(shape, device="meta"))
    return float(counter.get_total_flops()), float(sum(moved))


def time_calls(module: nn.Module, name: str, watch: Stopwatch) -> list[torch.Size]:
    """Let a stopwatch time every call of a module; the list gets the shapes of its inputs."""
    shapes: list[torch.Size] = []
    parts: list[Any] = []

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes.append(inputs[0].shape)
        parts.append(watch.part(name))
        parts[-1].__enter__()

    def after(*_: object) -> None:
        parts.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)
    return shapes


def seconds_of(task: Callable[[], object]) -> float:
    """CPU seconds of a task."""
    start = time.process_time()
    task()
    return time.process_time() - start


def print_floors(settings: Settings, scan: Path) -> None:
    """Print the steps of our predictor from file to file: CPU seconds, the floor by this machine's rates, the ratio."""
    keep_freed_memory()  # as inference does
    watch, candidate = Stopwatch(torch.device("cpu")), CANDIDATES["two-stage"](settings)
    network: Any = candidate.network
    coarse = time_calls(network.coarse.network, "coarse network", watch)
    queries = time_calls(network.segmenter, "query network", watch)
    *reading, to_grid = candidate.preprocessing.transforms  # type: ignore[attr-defined]
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        item: Any = {"image": str(scan), "case": "scan"}
        with watch.part("read"):
            for transform in reading:
                item = transform(item)
        source = item["image"].numel()
        with watch.part("to the working grid"):
            item = to_grid(item)
        with watch.part("network"):
            item["pred"] = candidate.inferer(item["image"][None], network)[0]
        with watch.part("back to the scan's grid"):
            item = candidate.postprocessing(item)
        written, labels = Path(folder) / "labels.nii.gz", item["pred"][0].numpy()
        with watch.part("write"):
            write_labels(written, labels, item["pred"].affine.numpy(), str(scan))
        operations, copied = rates()
        packed = scan.read_bytes()
        unpack = seconds_of(lambda: gzip.decompress(packed)) if scan.suffix == ".gz" else 0.0
        pack = seconds_of(lambda: gzip.compress(labels.tobytes("F"), 1))
    grid, scores = item["image"].numel(), item["image"].numel() * (1 + len(network.wanted))
    watch.cpu["cut, paste and the rest"] = watch.cpu.pop("network") - sum(
        watch.cpu[name] for name in ("coarse network", "query network")
    )
    work = {
        "coarse network": work_of(network.coarse.network, coarse),
        "query network": work_of(network.segmenter, queries),
    }
    floors = {name: flops / operations + moved / copied for name, (flops, moved) in work.items()}
    patches = sum(shape.numel() for shape in queries)
    floors |= {
        "read": unpack + 4 * source / copied,
        "to the working grid": 4 * (source + grid) / copied,
        "cut, paste and the rest": (4 * 2 * patches + 2 * 4 * scores) / copied,
        "back to the scan's grid": (2 * scores + labels.size) / copied,
        "write": pack,
    }
    print(f"matrix product {operations / 1e9:.0f} GFLOP/s, copy {copied / 1e9:.1f} GB/s")
    print(f"{'step':<26}{'CPU s':>8}{'floor s':>9}{'ratio':>7}{'GFLOP':>8}{'GB':>7}")
    for name, seconds in watch.cpu.items():
        flops, moved = work.get(name, (0.0, 0.0))
        cells = f"{seconds:>8.2f}{floors[name]:>9.2f}{seconds / floors[name]:>7.1f}"
        print(f"{name:<26}{cells}{flops / 1e9:>8.0f}{moved / 1e9:>7.1f}")
    print(f"{'all':<26}{sum(watch.cpu.values()):>8.2f}{sum(floors.values()):>9.2f}; {sum(candidate.passes)} queries")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one candidate."""
    parser = argparse.ArgumentParser(prog="python -m development.benchmarks.one_scan", description=__doc__)
    parser.add_argument("scan", type=Path, help="NIfTI file")
    parser.add_argument("candidate", choices=list(CANDIDATES))
    parser.add_argument("--settings", default="{}", help="as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--floors", action="store_true", help="print the table of steps beside the machine's rates")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    die_first()
    if options.floors:
        if not options.scan.exists():
            write_phantom_scan(options.scan, [512, 512, 150], [0.8, 0.8, 3.0])
        return print_floors(Settings(**json.loads(options.settings)), options.scan)
    print(json.dumps(measured(options.candidate, Settings(**json.loads(options.settings)), options.scan)))


if __name__ == "__main__":
    install_plain_errors()
    main()
