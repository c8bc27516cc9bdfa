"""Segment the organs in CT scans: ``python -m scripts.segment SCAN --output_dir OUT``."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.files.result_files import bundle_identity
from scripts.runtime.plain_errors import complaint, install_plain_errors

if TYPE_CHECKING:
    from scripts.segment.workflow import Outcome

OUTPUTS = {
    "overlay": ("save_overlay", "CASE_overlay.png: slices with the organs drawn over them"),
    "report": ("save_report", "CASE_report.html and CASE_organs.csv: volume and mean HU of every organ, pictures"),
    "statistics": ("save_statistics", "CASE_statistics.json: the same measures, warnings, versions and settings"),
    "dicom_seg": ("save_dicom_segmentation", "CASE_seg.dcm: the organs as DICOM-SEG, if the scan is a DICOM series"),
    "rtstruct": ("save_structure_set", "CASE_rtstruct.dcm: the same as contours (RTSTRUCT), if it is a DICOM series"),
}
"""What is written beside CASE_seg.nii.gz, the label map, and the id of the config that asks for it."""


def build_parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    written = "".join(f"\n  {name:10} {text}" for name, (_, text) in OUTPUTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m scripts.segment",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find organs in CT scans.\n" + bundle_identity().intended_use,
        epilog=f"Written for every scan: CASE_seg.nii.gz, the label map on the grid of the scan; and{written}",
    )
    parser.add_argument("scan", help="a NIfTI file, a folder of them, or one with a DICOM series (also in subfolders)")
    parser.add_argument("--output_dir", default="segmentations", help="where results go (default: %(default)s)")
    parser.add_argument("--organs", nargs="+", metavar="ORGAN", help="look for these organs only, in less time")
    run_dir = "folder of a training whose weights and settings are used (of version 0.9.0 or earlier: its config files)"
    parser.add_argument("--run_dir", nargs="+", metavar="RUN", help=run_dir)
    parser.add_argument("--model_path", help="weights (default: those of the run, else those of the bundle)")
    parser.add_argument("--series", help="which of several DICOM series: its number in the list, or its UID")
    parser.add_argument("--list_series", action="store_true", help="list the DICOM series in SCAN and stop")
    parser.add_argument("--write", nargs="*", choices=OUTPUTS, default=list(OUTPUTS), help="also write (default: all)")
    parser.add_argument("--device", help="cpu or cuda (default: the GPU if there is one)")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each scan, all else on stderr")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment the scans that the arguments name; return the exit status."""
    chosen = build_parser().parse_args(arguments)
    install_plain_errors()
    chosen.output_dir = os.path.expanduser(chosen.output_dir)
    try:
        return _list_series(chosen.scan) if chosen.list_series else _segment(chosen)
    except Exception as error:
        sentence = complaint(error)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1


def _list_series(folder: str) -> int:
    # Torch and MONAI take seconds to import: --help and a mistyped option should not wait for them.
    from scripts.dicom.series import find_series, listing

    found = find_series(folder)
    print(listing(found) if found else f"no DICOM series in {folder}")
    return 0 if found else 1


def _segment(chosen: argparse.Namespace) -> int:
    console = sys.stderr if chosen.json else sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere if chosen.quiet else console):
        outcomes = _outcomes(chosen)
    for outcome in outcomes:
        if chosen.json:
            print(json.dumps(asdict(outcome)), flush=True)
        if outcome.error:
            print(f"error: {outcome.case}: {outcome.error}", file=sys.stderr)
    return int(any(outcome.error for outcome in outcomes))


def _outcomes(chosen: argparse.Namespace) -> list[Outcome]:
    gc.disable()  # a fifth of the time of importing goes into looking for garbage
    from scripts.runtime.progress import readable_duration
    from scripts.segment.workflow import run_workflow

    gc.enable()
    bundle = bundle_identity()
    print(f"{bundle.name} {bundle.version}. {bundle.intended_use}")
    written = [*chosen.write, *["statistics"] * chosen.json]  # a line of JSON is read from it
    started = time.monotonic()
    outcomes = run_workflow(
        scan=chosen.scan,
        series=chosen.series,
        output_dir=chosen.output_dir,
        quiet=chosen.quiet,
        model_path=chosen.model_path,
        run_dir=chosen.run_dir and (chosen.run_dir if len(chosen.run_dir) > 1 else chosen.run_dir[0]),
        device=chosen.device,
        organs=chosen.organs,
        **{setting: output in written for output, (setting, _) in OUTPUTS.items()},
    )
    if done := [outcome for outcome in outcomes if not outcome.error]:
        count, took = f"{len(done)} scan{'s'[: len(done) > 1]}", readable_duration(time.monotonic() - started)
        print(f"{count} segmented in {took}; results in {chosen.output_dir}:")
    for outcome in done:
        print(f"  {', '.join(Path(file).name for file in outcome.files)}")
        for line in outcome.remarks():
            print(f"    {line}")
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
