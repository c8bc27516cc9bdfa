"""Weights of half the size: kernels in half precision, everything that is small in float32.

    python -m development.release.half_precision runs/mine/model.pt models/model.pt

The result is a `model.pt` like any other: loading copies half-precision values into the network's float32 parameters,
so every client reads it as it is, and computes as before. What the rounding costs, an evaluation of both files and
``development.study.comparison`` tell.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.files.result_files import claim_outputs
from scripts.runtime.plain_errors import install_plain_errors
from scripts.runtime.resume import load_checkpoint, save_atomically

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT_DTYPE = "float16"
"""Our choice: 11 significant bits against the 8 of bfloat16, whose larger range no trained weight needs."""


def is_kernel(value: Tensor) -> bool:
    """Whether a tensor is a kernel: floating point, two or more axes.

    What has one axis (biases, scales and statistics of normalisation) is a thousandth of the size, and a variance has
    a range that half precision does not.
    """
    return value.is_floating_point() and value.dim() > 1


def halved(state: Mapping[str, Tensor], dtype: str = DEFAULT_DTYPE) -> dict[str, Tensor]:
    """The state dict with its kernels in half precision, the rest as it is; ValueError if the dtype cannot hold one."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype '{dtype}' is unknown: choose one of {', '.join(DTYPES)}.")
    result = {name: value.to(DTYPES[dtype]) if is_kernel(value) else value for name, value in state.items()}
    for name, value in state.items():
        if is_kernel(value) and not bool(result[name].isfinite().all()):
            largest, limit = float(value.abs().max()), torch.finfo(DTYPES[dtype]).max
            raise ValueError(
                f"{name} has values up to {largest:.3g}, and {dtype} holds finite ones up to {limit:.3g}: "
                + ("choose bfloat16." if math.isfinite(largest) and dtype == "float16" else "these weights are broken.")
            )
    return result


class Rounding(NamedTuple):
    """What was saved and what was lost; the error is the largest norm of one divided by the norm of its kernel."""

    kernels: int
    bytes_before: int
    bytes_after: int
    largest_relative_error: float


def rounding(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Rounding:
    """Compare a state dict with its half-precision form."""
    kernels = ((before[name].double(), value.double()) for name, value in after.items() if is_kernel(value))
    errors = [float((exact - rounded).norm() / exact.norm().clamp(min=1e-30)) for exact, rounded in kernels]
    size_before, size_after = (sum(one.numel() * one.element_size() for one in s.values()) for s in (before, after))
    return Rounding(len(errors), size_before, size_after, max(errors, default=0.0))


def write_half_precision(source: str | Path, target: str | Path, dtype: str = DEFAULT_DTYPE) -> Rounding:
    """Write the half-precision form of a `model.pt`, whole or not at all; the same input gives the same bytes.

    Raises: FileNotFoundError; ValueError if it is damaged, or not a plain state dict.
    """
    if not Path(source).is_file():
        raise FileNotFoundError(f"no weights at {source}: give the model.pt of a training.")
    claim_outputs([target], [source], new=True)
    state = load_checkpoint(source)
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"{source} holds {', '.join(map(str, others[:3]))} beside tensors: it is the checkpoint of a stage. Give "
            "the model.pt that the training wrote."
        )
    result = halved(state, dtype)
    save_atomically(result, target)
    return rounding(state, result)


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert a file and say what that saved."""
    parser = argparse.ArgumentParser(
        prog="python -m development.release.half_precision", description=__doc__.splitlines()[0].rstrip(".")
    )
    parser.add_argument("source", help="weights of the whole predictor, as a training writes them to model.pt")
    parser.add_argument("target", help="file to write, for example models/model.pt")
    parser.add_argument("--dtype", choices=DTYPES, default=DEFAULT_DTYPE)
    options = parser.parse_args(arguments)
    done = write_half_precision(options.source, options.target, options.dtype)
    before, after = done.bytes_before / 2**20, done.bytes_after / 2**20
    print(f"{options.target}: {done.kernels} kernels in {options.dtype}; {before:.1f} MiB became {after:.1f} MiB")
    print(f"largest rounding error of a kernel: {done.largest_relative_error:.1e} of its norm")


if __name__ == "__main__":
    install_plain_errors()
    main()
