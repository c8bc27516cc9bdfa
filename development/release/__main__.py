"""Command line of a release: ``python -m development.release check | build | from_run | confirm | inspect``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from development.release.archive import inspect_release
from development.release.build import HUB, UPLOAD, build_release
from development.release.half_precision import DTYPES
from development.release.large_files import confirm_release
from development.release.run_bundle import Identity, build_run_bundle
from development.release.zoo_checks import CHECKS, failed_checks
from scripts.runtime.plain_errors import install_plain_errors

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {
    "name": "of the bundle: letters, digits and spaces",
    "version": "three numbers, such as 1.0.0",
    "authors": "who made it",
    "description": "what it segments, in a sentence or two",
    "data_source": "scans and labels that it was trained on, and their licence",
    "licence": "file with the text of its licence",
}
"""What a person says about a bundle made of a run."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m development.release", description="Check, build and publish the bundle."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="run the checks of the MONAI model zoo, without a network")
    build = commands.add_parser("build", help="check, then write the zip, the hub folder and the lists of addresses")
    confirm = commands.add_parser(
        "confirm", help="after the upload: compare what is served, then write the addresses down"
    )
    from_run = commands.add_parser("from_run", help="make a bundle of its own of a training, and its release")
    inspect = commands.add_parser("inspect", help="look into a downloaded zip before it is unpacked or used")
    for command in (check, build, confirm, from_run):
        command.add_argument("--bundle_root", type=Path, default=ROOT, help="the bundle (default: this one)")
    for command in (build, confirm, from_run):
        command.add_argument("--output_dir", type=Path, default=Path("dist"), help="folder of releases (default: dist)")
    build.add_argument("--base_url", help="address of the folder that the files will be uploaded to")
    build.add_argument(
        "--large_file",
        action="append",
        default=[],
        metavar="PATH",
        help="serve this file instead of packing it; repeat",
    )
    from_run.add_argument("--run_dir", type=Path, required=True, help="folder of the training")
    for field, text in ABOUT.items():
        from_run.add_argument(f"--{field}", type=Path if field == "licence" else str, required=True, help=text)
    from_run.add_argument("--half_precision", choices=DTYPES, help="store the kernels of the weights in it")
    inspect.add_argument("zip", type=Path, help="the downloaded file")
    inspect.add_argument("--sha256", help="its checksum, as published")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        if options.command == "check":
            failures = failed_checks(options.bundle_root)
            print(f"{len(CHECKS) - len(failures)} of {len(CHECKS)} checks passed")
            return int(bool(failures))
        if options.command == "build":
            folder = build_release(options.bundle_root, options.output_dir, options.base_url, options.large_file)
            print(f"wrote {folder}: upload the files of {UPLOAD}/, and {HUB}/ to a model hub")
        elif options.command == "from_run":
            identity = Identity(**{field: getattr(options, field) for field in ABOUT})
            made = build_run_bundle(
                options.run_dir, options.bundle_root, options.output_dir, identity, options.half_precision
            )
            print(f"wrote {made[0]}, and its release {made[1]}")
        elif options.command == "confirm":
            print("\n".join(f"served: {url}" for url in confirm_release(options.bundle_root, options.output_dir)))
        else:
            names = inspect_release(options.zip, options.sha256)
            print(f"{len(names)} files, no member climbs out, no pickle but weights")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    install_plain_errors()
    sys.exit(main())
