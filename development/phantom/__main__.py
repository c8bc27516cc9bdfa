"""Command line of the synthetic abdomen: ``python -m development.phantom --output_dir data/phantom``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from development.phantom.dataset import write_phantom_dataset
from scripts.runtime.plain_errors import install_plain_errors


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; its options are the arguments of ``write_phantom_dataset``."""
    parser = argparse.ArgumentParser(
        prog="python -m development.phantom",
        description="Write synthetic abdominal CTs (13 organs, two contrast phases) with a dataset.json. "
        "A folder already made with the same options is kept, an interrupted run is continued.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", default="data/phantom", help="folder to write to")
    parser.add_argument("--training", type=int, default=16, help="number of training cases")
    parser.add_argument("--validation", type=int, default=6, help="number of validation cases")
    parser.add_argument("--test", type=int, default=2, help="number of test cases")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal voxels")
    for name, default, what in (
        ("--in_plane_spacing", (1.6, 2.2), "pixel size"),
        ("--slice_spacing", (2.5, 5.0), "distance of slices"),
    ):
        text = f"smallest and largest {what} in mm; larger is coarser and faster"
        parser.add_argument(name, type=float, nargs=2, metavar=("LOW", "HIGH"), default=default, help=text)
    parser.add_argument(
        "--partial_fraction", type=float, default=0.25, help="part of the training cases contoured for some organs only"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> str:
    """Write the data set that the arguments describe and return the path of its ``dataset.json``."""
    options = build_parser().parse_args(arguments)
    path = write_phantom_dataset(
        output_dir=options.output_dir,
        training=options.training,
        validation=options.validation,
        test=options.test,
        seed=options.seed,
        in_plane_spacing=(options.in_plane_spacing[0], options.in_plane_spacing[1]),
        slice_spacing=(options.slice_spacing[0], options.slice_spacing[1]),
        partial_fraction=options.partial_fraction,
    )
    print(path)
    return path


if __name__ == "__main__":
    install_plain_errors()
    main()
