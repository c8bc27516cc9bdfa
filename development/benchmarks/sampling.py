"""Patches per second: query batches, the same patches from a cached MONAI chain, and what the encoder consumes.

The chain runs as MONAI runs by default, tracking meta data, and "lean", on plain tensors.

Run from the bundle's folder::

    python -m development.benchmarks.sampling --patch 128 64
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence

import torch
from monai.bundle import ConfigParser
from monai.data import get_track_meta, set_track_meta
from torch import Tensor, nn

from development.benchmarks.patch_chain import chain_loader
from development.benchmarks.phantom_bundle import training_config
from development.benchmarks.timing import interleaved_medians, verdict
from scripts.queries.batches import QueryBatches
from scripts.runtime.precision import autocast, resolve_precision

GOAL_OVER_CHAIN = 10.0
GOAL_OVER_ENCODER = 3.0


def encoder_step(encoder: nn.Module, images: Tensor, precision: str = "auto") -> None:
    """Forward and backward pass of patches [patch, channel, x, y]."""
    with autocast(images.device, precision):
        loss = encoder(images)[-1].float().square().mean()
    encoder.zero_grad()
    loss.backward()


def with_tracking(loader: Iterable[object], track: bool) -> object:
    """One batch of a loader while MONAI tracks meta data or not."""
    tracked = get_track_meta()
    set_track_meta(track)
    try:
        return next(iter(loader))
    finally:
        set_track_meta(tracked)


def patches_per_second(parser: ConfigParser, options: argparse.Namespace) -> dict[str, float]:
    """Patches per CPU second of all of them, in interleaved rounds."""
    batches: QueryBatches = parser.get_parsed_content("train::dataset")
    size, stream = batches.planner.patch_size, iter(batches)
    loader = chain_loader(batches, options.chain_batch)
    encoder = parser.get_parsed_content("encoder").to(memory_format=torch.channels_last).train()
    images = torch.randn(options.encoder_batch, encoder.in_channels, size, size)
    images = images.contiguous(memory_format=torch.channels_last)
    seconds = interleaved_medians(
        {
            "batches": lambda: next(stream),
            "chain": lambda: with_tracking(loader, track=True),
            "lean chain": lambda: with_tracking(loader, track=False),
            "encoder": lambda: encoder_step(encoder, images),
        },
        options.repeats,
    )
    patches = {"batches": batches.batch_size, "encoder": options.encoder_batch}
    return {name: patches.get(name, options.chain_batch) / time for name, time in seconds.items()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m development.benchmarks.sampling",
        description="Compare patches per second of the query batches with a cached MONAI transform chain and with what "
        "the encoder consumes, on synthetic scans with the settings of configs/data/abdomen.yaml.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--patch", type=int, nargs="+", default=[128, 64], help="patch sizes in pixels")
    parser.add_argument("--batch", type=int, default=64, help="queries in a batch")
    parser.add_argument("--chain_batch", type=int, default=32, help="patches of the chain timed at once")
    parser.add_argument("--encoder_batch", type=int, default=8, help="patches of the encoder timed at once")
    parser.add_argument("--cases", type=int, default=3, help="synthetic scans")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds, of which the median counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of all three")
    parser.add_argument("--folder", help="keep the synthetic data here for another run (default: a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    options = parser.parse_args(arguments)
    if options.quick:
        options.patch, options.batch, options.cases, options.repeats = [32], 8, 2, 1
        options.chain_batch, options.encoder_batch = 4, 2
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    precision = resolve_precision(torch.device("cpu"))
    print(f"patches per CPU second, batch {options.batch}, {options.threads} thread(s), encoder in {precision}")
    print(f"{'patch':>6} {'batches':>9} {'chain':>9} {'lean chain':>11} {'encoder':>9}   ratios")
    with tempfile.TemporaryDirectory() as temporary:
        for size in options.patch:
            settings = {"query_planner::patch_size": size, "train::batch_size": options.batch}
            parser = training_config(options.folder or temporary, options.cases, options.quick, settings)
            print_row(size, patches_per_second(parser, options))


def print_row(size: int, speed: Mapping[str, float]) -> None:
    """Print patches per second and their ratios for one patch size."""
    over = {name: speed["batches"] / speed[name] for name in speed}
    print(
        f"{size:>6} {speed['batches']:>9.1f} {speed['chain']:>9.1f} {speed['lean chain']:>11.1f} "
        f"{speed['encoder']:>9.1f}   batches / chain {over['chain']:.1f} ({verdict(over['chain'], GOAL_OVER_CHAIN)}), "
        f"batches / lean chain {over['lean chain']:.1f}, "
        f"batches / encoder {over['encoder']:.1f} ({verdict(over['encoder'], GOAL_OVER_ENCODER)})"
    )


if __name__ == "__main__":
    main()
