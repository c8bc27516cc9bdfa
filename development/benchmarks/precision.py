"""A training step of the encoder in each number format and memory layout, and which of them `auto` chooses.

Run from the bundle's folder::

    python -m development.benchmarks.precision
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from development.benchmarks.phantom_bundle import bundle_config
from development.benchmarks.sampling import encoder_step
from development.benchmarks.timing import interleaved_medians
from scripts.runtime.precision import resolve_precision

LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}

ARMS = (("float32", "NCHW"), ("float32", "channels-last"), ("bfloat16", "channels-last"))


def training_step(encoder: nn.Module, shape: Sequence[int], precision: str, layout: str) -> Callable[[], None]:
    """A forward and backward pass of random patches through a copy of the encoder."""
    images = torch.randn(*shape).contiguous(memory_format=LAYOUTS[layout])
    laid_out: nn.Module = copy.deepcopy(encoder).to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    return lambda: encoder_step(laid_out, images, precision)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m development.benchmarks.precision",
        description="Compare number formats and memory layouts of the encoder (forward + backward, on the CPU).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--encoder", default="resnet50", help="resnet50, resnet34 or resnet18")
    parser.add_argument("--patch", type=int, default=128, help="side of a patch in pixels")
    parser.add_argument("--batch", type=int, default=4, help="patches in a step")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds, of which the median counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    options = parser.parse_args(arguments)
    if options.quick:
        options.encoder, options.patch, options.batch, options.repeats = "resnet18", 32, 2, 1
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    encoder = bundle_config(settings={"encoder::name": options.encoder}).get_parsed_content("encoder").train()
    shape = (options.batch, encoder.in_channels, options.patch, options.patch)
    steps = {f"{precision} {layout}": training_step(encoder, shape, precision, layout) for precision, layout in ARMS}
    seconds = interleaved_medians(steps, options.repeats)
    chosen = str(resolve_precision(torch.device("cpu"))).removeprefix("torch.")
    print(f"{options.encoder}, {options.batch} patches of {options.patch}, {options.threads} thread(s)")
    print(f"{'':<24} {'patches / CPU s':>16} {'time / float32 NCHW':>20}")
    for name, time in seconds.items():
        print(f"{name:<24} {options.batch / time:>16.1f} {time / seconds['float32 NCHW']:>20.2f}")
    ratio = seconds["bfloat16 channels-last"] / seconds["float32 channels-last"]
    print(f"time bfloat16 / float32, channels-last: {ratio:.2f}; auto chooses {chosen} channels-last here")


if __name__ == "__main__":
    main()
