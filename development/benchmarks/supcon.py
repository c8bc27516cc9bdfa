"""Time and numerical check of `SupConLoss` beside the one of pytorch-metric-learning.

Prints, for each batch size, the medians of forward + backward and their ratio (goal: at most 1.2), then
whether either implementation yields NaN or infinity at low temperatures. Run from the bundle's folder::

    python -m development.benchmarks.supcon --views 64 512 2048
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from development.benchmarks.timing import finish_device_work
from scripts.losses.supcon import SupConLoss

Loss = Callable[[Tensor, Tensor], Tensor]

GOAL = 1.2
LOW_TEMPERATURES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)


def forward_and_backward(loss: Loss, embeddings: Tensor, labels: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    leaf = embeddings.clone().requires_grad_()
    finish_device_work(embeddings.device)
    start = time.perf_counter()
    loss(leaf, labels).backward()
    finish_device_work(embeddings.device)
    return time.perf_counter() - start


def views_and_labels(views: int, dim: int, classes: int, device: str) -> tuple[Tensor, Tensor]:
    """Random unit embeddings [views, dim] and labels [views], the same for every call."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(views, dim, generator=generator), dim=1)
    labels = torch.randint(classes, (views,), generator=generator)
    return embeddings.to(device), labels.to(device)


def interleaved_medians(first: Loss, second: Loss, batch: tuple[Tensor, Tensor], repeats: int) -> tuple[float, float]:
    """Median seconds of both, taken in turns (A B A B) so that a busy machine slows both alike."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for loss, times in zip((first, second), seconds, strict=True):
            times.append(forward_and_backward(loss, *batch))
    warm_up = repeats // 5
    return statistics.median(seconds[0][warm_up:]), statistics.median(seconds[1][warm_up:])


def finite(loss: Loss, embeddings: Tensor, labels: Tensor) -> bool:
    """Whether the loss and its gradient are finite, and the loss is not an erroneous 0."""
    leaf = embeddings.clone().requires_grad_()
    cost = loss(leaf, labels)
    cost.backward()
    return bool(cost.isfinite() and cost > 0 and leaf.grad is not None and leaf.grad.isfinite().all())


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description="Compare SupConLoss with the one of pytorch-metric-learning.")
    parser.add_argument("--views", type=int, nargs="+", default=[64, 512, 2048], help="batch sizes (64 512 2048)")
    parser.add_argument("--dim", type=int, default=256, help="length of an embedding (256)")
    parser.add_argument("--classes", type=int, default=24, help="number of labels (24: 12 organs x 2 phases)")
    parser.add_argument("--repeats", type=int, default=25, help="timed pairs per batch size (25), a fifth is warm-up")
    parser.add_argument("--temperature", type=float, default=0.1, help="temperature of the timing (0.1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    return parser.parse_args(arguments)


def main() -> None:
    """Print the comparison."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    theirs_of = importlib.import_module("pytorch_metric_learning.losses").SupConLoss

    print(f"forward + backward, {options.dim} dim, {options.classes} classes, {options.threads} thread(s)")
    print(f"{'views':>6} {'ours ms':>9} {'theirs ms':>10} {'ours / theirs':>14}   goal <= {GOAL}")
    for views in options.views:
        batch = views_and_labels(views, options.dim, options.classes, options.device)
        pair = (SupConLoss(options.temperature), theirs_of(options.temperature))
        ours, theirs = interleaved_medians(*pair, batch, options.repeats)
        verdict = "met" if ours <= GOAL * theirs else "MISSED"
        print(f"{views:>6} {1e3 * ours:>9.3f} {1e3 * theirs:>10.3f} {ours / theirs:>14.2f}   {verdict}")

    print("\nloss and gradient finite, loss above 0 (64 views)")
    batch = views_and_labels(64, options.dim, options.classes, options.device)
    for temperature in LOW_TEMPERATURES:
        results = [finite(make(temperature), *batch) for make in (SupConLoss, theirs_of)]
        print(f"temperature {temperature:<6} ours {results[0]!s:<6} theirs {results[1]}")


if __name__ == "__main__":
    main()
