"""Inference by two processes of one thread each beside one, of the same scans in one run: time ratio and memory.

    python -m development.benchmarks.two_processes --dataset_dir SCANS      # a folder of scans, or a dataset.json

One process segments the scans, then two do (`torchrun`), each time into an empty folder, and the label maps are
compared. Needs two idle cores. The time of starting Python counts; give scans for a minute or more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from development.benchmarks.timing import verdict
from scripts.files.result_files import digest
from scripts.runtime.running_config import bundle_command

GOAL_RATIO, GOAL_MEMORY = 1.8, 1.05
POLL = 0.1


def children(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    try:
        listed = [Path(f"/proc/{pid}/task/{task}/children").read_text() for task in os.listdir(f"/proc/{pid}/task")]
    except OSError:  # it has just ended
        return []
    return [pid, *(below for line in listed for child in line.split() for below in children(int(child)))]


def resident(pid: int) -> float:
    """Resident memory of a process in GiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM")), 0.0)


def run(command: Sequence[str], log: Path) -> tuple[float, list[float]]:
    """Wall-clock seconds of a command, and the peak memory (GiB) of each of its processes, the largest first."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    peaks: dict[int, float] = {}
    began = time.perf_counter()
    with open(log, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        while process.poll() is None:
            peaks |= {pid: max(peaks.get(pid, 0.0), resident(pid)) for pid in children(process.pid)}
            time.sleep(POLL)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return time.perf_counter() - began, sorted(peaks.values(), reverse=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both and print the ratio."""
    parser = argparse.ArgumentParser(prog="python -m development.benchmarks.two_processes", description=__doc__)
    parser.add_argument("--dataset_dir", required=True, help="scans, as `run inference` takes them")
    parser.add_argument("--run_dir", help="folder of a training; without it the bundle's weights")
    options = parser.parse_args(arguments)
    settings = {"dataset_dir": options.dataset_dir} | ({"run_dir": options.run_dir} if options.run_dir else {})
    seconds, memory, results = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            out = Path(folder) / str(count)
            bundle = bundle_command("inference", ["configs/inference.yaml"], output_dir=str(out), **settings)
            start = ["-m", "torch.distributed.run", "--nproc_per_node", str(count)] if count > 1 else []
            wall, peaks = run([sys.executable, *start, *bundle], Path(folder) / f"{count}.log")
            results.append({path.name: digest(path) for path in sorted(out.rglob("*.nii.gz"))})
            seconds.append(wall)
            memory.append(peaks[:count])
            peak = ", ".join(f"{value:.2f}" for value in memory[-1])
            print(f"{count} process(es): {len(results[-1])} scans, {wall:.1f} s, peak {peak} GiB", flush=True)
    print(f"same label maps: {'yes' if results[0] == results[1] else 'NO'}")
    print(f"one / two processes: {seconds[0] / seconds[1]:.2f} ({verdict(seconds[0] / seconds[1], GOAL_RATIO)})")
    growth = max(memory[1]) / memory[0][0]
    print(f"memory of a process, two / one: {growth:.2f} ({verdict(growth, GOAL_MEMORY, smaller=True)})")


if __name__ == "__main__":
    main()
