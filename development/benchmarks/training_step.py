"""A contrastive training step: ours, and the public code's design, part by part.

Both load in the process that trains, both compute in the same number format; patches are 128 x 128. Run from the
bundle's folder::

    python -m development.benchmarks.training_step --views 64
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from development.benchmarks.phantom_bundle import training_config
from development.benchmarks.public_design import (
    PATCH,
    PairedViews,
    looped_weights,
    six_channel_network,
    weighted_contrast,
    write_pairs,
)
from development.benchmarks.timing import Stopwatch, verdict
from scripts.runtime.precision import PRECISIONS, PrecisionInferer, resolve_precision

GOAL = 10.0
PARTS = ("load", "forward + backward", "loss")
PAIRS = 256
"""Pairs of files that the public design draws from."""

Step = Callable[[Stopwatch], None]


def learn(watch: Stopwatch, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Backward pass and update."""
    with watch.part(PARTS[1]):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def our_step(parser: ConfigParser, options: argparse.Namespace) -> Step:
    """The contrastive stage of the config: its batches, network, loss and optimizer."""
    stream = iter(parser.get_parsed_content("contrastive::dataset"))
    network = parser.get_parsed_content("contrastive::on_device").train()
    criterion = parser.get_parsed_content("contrastive::loss")
    optimizer = parser.get_parsed_content("contrastive::optimizer")
    infer, device = PrecisionInferer(options.precision), torch.device(options.device)

    def step(watch: Stopwatch) -> None:
        with watch.part(PARTS[0]):
            batch = {key: value.to(device) for key, value in next(stream).items()}
        with watch.part(PARTS[1]):
            embeddings = infer(batch["image"], network)
        with watch.part(PARTS[2]):
            loss = criterion(embeddings, batch)
        learn(watch, optimizer, loss)

    return step


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches of a loader, again and again."""
    while True:
        yield from loader


def public_step(folder: Path, options: argparse.Namespace) -> Step:
    """The public code's design, on the pairs of files in the folder."""
    pairs, device = PairedViews(folder), torch.device(options.device)
    sampler = RandomSampler(pairs, replacement=True, num_samples=100 * options.views)
    stream = endless(DataLoader(pairs, batch_size=options.views // 2, sampler=sampler, num_workers=0))
    network: nn.Module = six_channel_network(options.encoder).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=5e-4, momentum=0.9, weight_decay=1e-4)
    infer = PrecisionInferer(options.precision, channels_last=False)

    def step(watch: Stopwatch) -> None:
        with watch.part(PARTS[0]):
            images, priors = (torch.cat(views) for views in next(stream))
            batch = torch.cat([images, priors], dim=1).to(device)
        with watch.part(PARTS[1]):
            embeddings = infer(batch, network)
        with watch.part(PARTS[2]):
            loss = weighted_contrast(embeddings, looped_weights(images * priors).to(device))
        learn(watch, optimizer, loss)

    return step


def timed_steps(steps: Mapping[str, Step], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds of the parts of each step, in turns, the first round not counted; CPU seconds on a CPU."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for turn in range(1 + options.repeats):
        for name, step in steps.items():
            watch = Stopwatch(torch.device(options.device))
            step(watch)
            seconds = watch.cpu if options.device == "cpu" else watch.wall
            print(f"round {turn} of {options.repeats}: {name} {sum(seconds.values()):.2f} s", flush=True)
            if turn:
                rounds[name].append({**seconds, "total": sum(seconds.values())})
    return {
        name: {part: statistics.median(one[part] for one in found) for part in (*PARTS, "total")}
        for name, found in rounds.items()
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m development.benchmarks.training_step",
        description="Compare our contrastive training step with the public code's design, on synthetic scans.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--views", type=int, default=64, help="views in a batch, two of each patch")
    parser.add_argument("--encoder", default="resnet50", help="resnet50, resnet34 or resnet18")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of both; the public code: float32")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both")
    parser.add_argument("--cases", type=int, default=3, help="synthetic scans")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    options = parser.parse_args(arguments)
    if options.views < 4 or options.views % 2 or options.repeats < 1:
        parser.error("--views has to be even and at least 4, --repeats at least 1.")
    if options.quick:
        options.views, options.encoder, options.cases, options.repeats = 4, "resnet18", 2, 1
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the parts of both steps and their ratios."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    settings = {
        "device": f"$torch.device('{options.device}')",
        "query_planner::patch_size": PATCH,
        "encoder::name": options.encoder,
        "contrastive::batch_size": options.views // 2,
    }
    with tempfile.TemporaryDirectory() as folder:
        parser = training_config(folder, options.cases, options.quick, settings)
        write_from_batches(Path(folder) / "pairs", parser, 8 if options.quick else PAIRS)
        steps = {"ours": our_step(parser, options), "public design": public_step(Path(folder) / "pairs", options)}
        print_table(timed_steps(steps, options), options)


def write_from_batches(folder: Path, parser: ConfigParser, pairs: int) -> None:
    """Write patches of our own batches as pairs of files."""
    found: list[Tensor] = []
    for batch in parser.get_parsed_content("contrastive::dataset"):
        found.append(batch["image"].cpu())
        if sum(len(patches) for patches in found) >= pairs:
            break
    patches = torch.cat(found)[:pairs]
    write_pairs(folder, patches[:, 0], patches[:, -1])


def print_table(seconds: Mapping[str, Mapping[str, float]], options: argparse.Namespace) -> None:
    """Print medians and ratios."""
    precision = str(resolve_precision(torch.device(options.device), options.precision)).removeprefix("torch.")
    clock = "CPU seconds" if options.device == "cpu" else "seconds"
    print(f"{options.views} views of {PATCH} x {PATCH}, {options.encoder}, {options.device}, {precision}: {clock}")
    print(f"{'':<20} " + " ".join(f"{name:>14}" for name in (*seconds, "ratio")))
    for part in (*PARTS, "total"):
        ours, public = seconds["ours"][part], seconds["public design"][part]
        print(f"{part:<20} {ours:>14.3f} {public:>14.3f} {public / max(ours, 1e-6):>14.1f}")
    ratio = seconds["public design"]["total"] / seconds["ours"]["total"]
    print(f"public design / ours: {ratio:.1f} ({verdict(ratio, GOAL)})")


if __name__ == "__main__":
    main()
