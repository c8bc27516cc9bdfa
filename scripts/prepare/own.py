"""From scans of one's own to a data set, a report on it, a config for it and, with --train, a trained model.

    python -m scripts.prepare.own --images scans --labels labels --values 1=liver 2=spleen --output_dir data/mine
    python -m scripts.prepare.own --table scans.csv --values 1=liver 2,3=kidneys 9=background --output_dir data/mine
    python -m scripts.prepare.own --images export --structures "liver=Liver,Leber" spleen=spleen --output_dir data/mine

Images and labels are folders (volumes, DICOM series, at any depth) or patterns with * whose matched part is the name of
the case. A table says more of each scan. With --structures the labels are RTSTRUCT or DICOM-SEG files. Every patient is
in one split. OUTPUT_DIR gets dataset.json, report.html and cohort.yaml; no scan is copied or changed.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.dataset.datalist_file import read_datalist
from scripts.dataset.label_values import read_label_values
from scripts.dataset.volume_file import read_volume_file
from scripts.files.result_files import claim_outputs
from scripts.prepare.cohort import add_training_options, train_or_tell, write_cohort
from scripts.prepare.scan_folders import find_scans, read_table
from scripts.prepare.split import NNUNET_SEED, ScanEntry, datalist_of, split_scans, state_split
from scripts.prepare.structure_labels import FOLDER, label_maps_of, read_spellings
from scripts.runtime.plain_errors import command_parser

MAX_SHOWN_VALUES = 20


def prepare_own(options: argparse.Namespace) -> list[Path]:
    """Write the data set that the command line describes, or nothing, and return the folders of its datalists."""
    if bool(options.table) == bool(options.images):
        raise ValueError("give either --images (and --labels) or --table.")
    if options.table:
        scans = read_table(options.table, options.patient_pattern)
    else:
        scans = find_scans(options.images, None if options.structures else options.labels, options.patient_pattern)
    if options.structures:
        return _prepare_structures(options, scans)
    return _prepare(options, scans, _label_map(options.values, scans), "--values")


def _prepare_structures(options: argparse.Namespace, scans: Sequence[ScanEntry]) -> list[Path]:
    """Make label maps of the structures, and take them away again if the data set is refused."""
    if options.values:
        raise ValueError("give --values for label maps or --structures for RTSTRUCT and DICOM-SEG, not both.")
    spellings = read_spellings(options.structures)
    place = None if options.table else options.labels or options.images
    results = bool(options.labels)  # beside the scans they are what an earlier model found
    folder = Path(options.output_dir, FOLDER)
    claim_outputs([folder], [scan.image for scan in scans], new=True)
    made = folder if os.path.exists(options.output_dir) else options.output_dir
    try:
        scans = label_maps_of(scans, place, results, options.structure_set, spellings, options.output_dir)
        return _prepare(options, scans, {str(n): organ for n, organ in enumerate(spellings, 1)}, "--structures")
    except Exception:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _prepare(options: argparse.Namespace, scans: Sequence[ScanEntry], labels: dict[str, str], where: str) -> list[Path]:
    known = list(read_label_values(labels, where).organs)
    organs = options.organs or known
    if unknown := sorted({*organs, *(organ for scan in scans for organ in scan.organs or ())} - set(known)):
        wrong = f"{where} does not name {', '.join(unknown)}, which --organs or the table lists"
        raise ValueError(f"{wrong}; its organs are: {', '.join(known)}. Fix the spelling, or add it.")
    splits = split_scans(scans, organs, options.validation, options.test, options.folds, options.seed, options.split)
    how = f"patients drawn at random (seed {options.seed})"
    if options.split:
        how = f"split of {Path(options.split).name}"
    elif options.folds > 1:
        how = f"patients dealt at random (seed {NNUNET_SEED})"
    folds = [
        {
            "name": options.name or Path(options.output_dir).name,
            "split": state_split(splits, number, how),
            "labels": {"0": "background", **labels},
            "modality": {"0": "CT"},
            **datalist_of(scans, split),
        }
        for number, split in enumerate(splits)
    ]
    return write_cohort(options.output_dir, folds, organs)


def _label_map(given: Sequence[str], scans: Sequence[ScanEntry]) -> dict[str, str]:
    """Value -> organ from ``1=liver`` arguments, or from the ``labels`` of a JSON file."""
    if len(given) == 1 and given[0].lower().endswith(".json"):
        content = read_datalist(given[0])
        labels: dict[str, str] = content.get("labels", content)
        return labels
    pairs = [argument.partition("=") for argument in given]
    if not pairs or not all(value and organ for value, _, organ in pairs):
        said = f"; got {' '.join(given) or 'nothing'}.{_found(scans)}"
        example = "--values 1=liver 2,3=kidneys 9=background, or names a JSON file with 'labels'"
        raise ValueError(f"--values says which value of the label files is which organ, such as {example}{said}")
    if twice := sorted({value for value, _, _ in pairs if [pair[0] for pair in pairs].count(value) > 1}):
        raise ValueError(f"--values names the value {twice[0]} twice; give each value once.")
    return {value: organ for value, _, organ in pairs}


def _found(scans: Sequence[ScanEntry]) -> str:
    """The values of the first label file, to help with --values."""
    path = next((scan.label for scan in scans if scan.label), None)
    if path is None or not Path(path).exists():
        return ""
    values = np.unique(read_volume_file(path).voxels)[:MAX_SHOWN_VALUES]
    return f" {path} has the values {', '.join(f'{value:g}' for value in values)}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the cohort that the arguments describe; return the exit status."""
    parser = command_parser("scripts.prepare.own", __doc__)
    add: Any = parser.add_argument
    add("--images", help="folder or 'pattern/*' of the scans")
    add("--labels", help="folder or 'pattern/*' of their labels, of the same names; scans without one are unlabelled")
    add("--table", help="CSV with a row for each scan, in place of --images and --labels")
    add("--values", nargs="+", default=[], metavar="VALUE=ORGAN", help="label values, or a JSON file with 'labels'")
    structures = "names of structures in RTSTRUCT or DICOM-SEG files below --labels or --images, or a JSON file of them"
    add("--structures", nargs="+", default=[], metavar="ORGAN=NAMES", help=structures)
    add("--structure_set", metavar="LABEL", help="of several structure sets of a scan (default: the newest)")
    add("--organs", nargs="+", default=[], help="organs to segment (default: all of --values)")
    add("--patient_pattern", help="regular expression whose first group is the patient in a scan's name")
    add("--validation", type=float, default=0.2, help="share of the labelled patients (default: %(default)s)")
    add("--test", type=float, default=0.0, help="share of the labelled patients (default: %(default)s)")
    add("--folds", type=int, default=1, help="several folds in place of one split")
    add("--split", help="JSON file with the names of the cases for training, validation and test")
    add("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    add("--name", help="of the data set (default: the folder's)")
    add("--output_dir", default="data/mine", help="folder to write to (default: %(default)s)")
    add_training_options(parser)
    options = parser.parse_args(arguments)
    return train_or_tell(prepare_own(options), options)


if __name__ == "__main__":
    sys.exit(main())
