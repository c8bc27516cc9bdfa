"""Clocks of the benchmarks: fair on a busy machine."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch


def finish_device_work(device: torch.device) -> None:
    """Wait for the queue of a GPU, so that the clock counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds of the named parts of a task, in ``wall`` and in ``cpu`` (of this process); parts of one name add up.

    Args:
        device: device whose queue is emptied at the ends of a part.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        finish_device_work(self.device)
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        finish_device_work(self.device)
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu


def interleaved_medians(tasks: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, float]:
    """Median CPU seconds of each task, the tasks taken in turns (A B C A B C).

    CPU seconds of this process, not wall-clock: beside other work a short task often fits into one time slice while a
    long one never does, so that a ratio of wall-clock times would flatter the short one. With several threads these are
    core-seconds.

    Args:
        tasks: tasks to time, by name.
        repeats: timed rounds.
        warm_up: rounds before them that are not counted.
    """
    if repeats < 1:
        raise ValueError(f"repeats {repeats} times nothing: give at least 1.")
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(warm_up + repeats):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if turn >= warm_up:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes.

    Linux keeps it per program (VmHWM); ``ru_maxrss``, the way elsewhere, may also count the parent that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def verdict(value: float, goal: float, smaller: bool = False) -> str:
    """In words, whether a figure is what it should be: at least the goal, or at most."""
    met = value <= goal if smaller else value >= goal
    return f"goal {'<=' if smaller else '>='} {goal:g}: {'met' if met else 'MISSED'}"
