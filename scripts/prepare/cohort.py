"""Writing a cohort: datalist, report and config, and if wanted the training; nothing unless every file is in order."""

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scripts.dataset.case_check import CaseFindings
from scripts.dataset.check import DatasetSummary, check_dataset
from scripts.dataset.datalist_file import PATH_KEYS, files_of, joined, read_datalist, split_names
from scripts.dataset.datalists import load_cases
from scripts.dataset_report.__main__ import report_dataset
from scripts.dataset_report.measure import CaseMeasure
from scripts.files.atomic_write import write_text
from scripts.files.result_files import claim_outputs
from scripts.runtime.plain_errors import BUNDLE
from scripts.runtime.running_config import bundle_command

DATALIST, REPORT, OVERLAY = "dataset.json", "report.html", "cohort.yaml"
Contents = Sequence[Mapping[str, Any]]
logger = logging.getLogger(__name__)


def labels_of(organs: Sequence[str]) -> dict[str, str]:
    """The Decathlon's map of values, numbered from 1: ``["liver"]`` -> ``{"0": "background", "1": "liver"}``."""
    return {"0": "background", **{str(value): organ for value, organ in enumerate(organs, start=1)}}


def write_datalist(folder: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write a datalist as ``dataset.json``; paths below the folder become relative, so that it can be moved."""
    path = Path(folder).absolute() / DATALIST
    claim_outputs([path], files_listed(content), new=not _is_written(path, content))
    write_text(path, _text(path.parent, content))
    return path


def _is_written(path: Path, content: Mapping[str, Any]) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == _text(path.parent, content)


def claim_datalists(folders: Sequence[Path], contents: Contents, others: Sequence[Path] = ()) -> None:
    """Raise ValueError, before the files are read, if something of another preparation would be replaced.

    Where these datalists are there already, the others, which are made from them, may be written anew.
    """
    paths = [folder.absolute() / DATALIST for folder in folders]
    missing = [path for path, content in zip(paths, contents, strict=True) if not _is_written(path, content)]
    claim_outputs([*missing, *(others if missing else ())], [], new=True)


def _text(root: Path, content: Mapping[str, Any]) -> str:
    placed = {split: [_placed(entry, root) for entry in content[split]] for split in split_names(content)}
    text = json.dumps({**content, **placed}, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # \udcff for a byte of a name that is not UTF-8


def files_listed(content: Mapping[str, Any]) -> list[str]:
    """Scans and labels of a datalist whose paths are absolute."""
    return files_of(entry for split in split_names(content) for entry in content[split])


def _placed(entry: Mapping[str, Any], root: Path) -> dict[str, Any]:
    paths = {key: Path(entry[key]) for key in PATH_KEYS if key in entry}
    inside = {key: path.relative_to(root).as_posix() for key, path in paths.items() if path.is_relative_to(root)}
    return {**entry, **inside}


def read_absolute(path: str) -> dict[str, Any]:
    """Read a datalist with every path made absolute and every entry a dictionary; see :func:`write_datalist`."""
    content, root = read_datalist(path), os.path.dirname(os.path.abspath(path))
    for split in split_names(content):
        entries = [{"image": entry} if isinstance(entry, str) else dict(entry) for entry in content[split]]
        for entry in entries:
            entry |= {key: joined(root, entry[key]) for key in PATH_KEYS if entry.get(key)}
        content[split] = entries
    return content


def check_datalist(content: Mapping[str, Any], organs: Sequence[str], **options: Any) -> DatasetSummary:
    """Check a datalist before it is written, with the options of `check_dataset`; DatasetError lists all problems."""
    logger.info("Checking %s.", content.get("split", "the data set"))
    with tempfile.TemporaryDirectory() as folder:
        write_datalist(folder, content)
        splits = {split: load_cases(folder, split, organs) for split in split_names(content) if content[split]}
    return check_dataset(splits, organs, **options)


def write_cohort(output_dir: str, folds: Contents, organs: Sequence[str], inputs: Sequence[Path] = ()) -> list[Path]:
    """Check a cohort, write its datalists, report and config, and return the folders of the datalists.

    ``output_dir`` gets ``dataset.json`` (of several folds ``fold0/dataset.json`` and so on), ``report.html`` and
    ``cohort.yaml``. The datalists have absolute paths, and all list the same cases. Inputs are files other than scans
    and labels that were read. ValueError: something has problems or would be written over; nothing is written then.
    """
    output = Path(output_dir).absolute()
    folders = [output] if len(folds) == 1 else [output / f"fold{number}" for number in range(len(folds))]
    made = [output / REPORT, output / OVERLAY]
    claim_outputs([*(folder / DATALIST for folder in folders), *made], [*inputs, *files_listed(folds[0])])
    claim_datalists(folders, folds, made)
    if made[1].exists() and (yaml.safe_load(made[1].read_text(encoding="utf-8")) or {}).get("organs") != list(organs):
        raise ValueError(f"{made[1]} lists other organs than {', '.join(organs)}: delete it, or give another folder.")
    phases = phases_of(folds[0])
    known = dict[str, CaseFindings]()
    checked = [check_datalist(content, organs, phases=phases, known=known) for content in folds]
    for folder, content in zip(folders, folds, strict=True):
        write_datalist(folder, content)
    cases = report_dataset(str(folders[0]), str(output / REPORT), organs, checked[0].warnings)
    name = str(folds[0].get("name") or output.name)
    _write_overlay(output / OVERLAY, name, organs, phases, [case for case in cases if not case.failure])
    return folders


def phases_of(content: Mapping[str, Any]) -> list[str]:
    """The contrast phases of a datalist; none if a training or validation scan does not know its own."""
    entries = [entry for split in split_names(content) for entry in content[split]]
    known = sorted({entry["phase"] for entry in entries if entry.get("phase")})
    unknown = sum(not entry.get("phase") for entry in entries)
    if known and unknown:
        logger.warning("%d scans do not say their contrast phase: phases are not used (organ alone attracts).", unknown)
    return [] if unknown else known


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what every preparation can do at its end."""
    parser.add_argument("--train", metavar="RUN_DIR", help="train on the cohort afterwards, into this folder")
    parser.add_argument("--config", nargs="+", default=[], metavar="YAML", help="further overlays, after cohort.yaml")


def train_or_tell(folders: Sequence[Path], options: argparse.Namespace) -> int:
    """Print the commands for every fold, and start the trainings if a run folder is given; return the exit status."""
    overlay = Path(options.output_dir).absolute() / OVERLAY
    configs = ["configs/train.yaml", str(overlay), *(str(Path(name).absolute()) for name in options.config)]
    run_dir = Path(options.train or "runs/mine").absolute()
    trainings = []
    print(f"Look at {overlay.with_name(REPORT)} and {overlay}. Training, evaluation and inference, from {BUNDLE}:")
    for folder in folders:
        run = run_dir / folder.name if len(folders) > 1 else run_dir
        where = {"dataset_dir": folder, "run_dir": run}
        trainings.append(bundle_command("training", configs, dataset_dir=folder, output_dir=run))
        evaluation = bundle_command("evaluate", ["configs/evaluate.yaml"], output_dir=run / "evaluation", **where)
        inference = bundle_command("inference", ["configs/inference.yaml"], output_dir=run / "segmentations", **where)
        for command in (trainings[-1], evaluation, inference):
            print(f"    python {shlex.join(command)}", flush=True)
    for training in trainings if options.train else ():
        if code := subprocess.run([sys.executable, *training], cwd=BUNDLE, check=False).returncode:
            return code
    return 0


# Our choices, a starting point: finer costs time that organs do not repay; pixels coarser than 3 mm lose small ones.
PIXEL_MM, SLICE_MM = (0.8, 3.0), (2.0, 5.0)
# A query patch covers about 192 mm with at most the 128 pixels of the public code.
FIELD_OF_VIEW_MM, PATCH_PIXELS, PATCH_MULTIPLE = 192, (48, 128), 16
# The coarse spacing is twice the working one: pixels from 2 mm on; slices up to 6 mm, or what the scans have.
COARSE_PIXEL_MM, COARSE_SLICE_MM = 2.0, 6.0
COARSE_FIELD_MM, COARSE_VOXELS, COARSE_MULTIPLE = (256.0, 256.0, 240.0), (16, 168), 8
MAX_APART = 0.01  # of an organ's voxels outside of its largest connected part, in 19 of 20 labels


def _write_overlay(
    path: Path, name: str, organs: Sequence[str], phases: Sequence[str], cases: Sequence[CaseMeasure]
) -> None:
    """Write a config that overrides train.yaml; one that is there with other content is kept."""
    spacings = np.array([case.spacing for case in cases])
    pixel = round(float(np.clip(np.median(spacings[:, :2]), *PIXEL_MM)), 1)
    between = round(float(np.clip(np.median(spacings[:, 2]), *SLICE_MM)), 1)
    patch = int(np.clip(PATCH_MULTIPLE * round(FIELD_OF_VIEW_MM / pixel / PATCH_MULTIPLE), *PATCH_PIXELS))
    coarse_pixel = max(COARSE_PIXEL_MM, round(2 * pixel, 1))
    coarse = [coarse_pixel, coarse_pixel, max(between, min(round(2 * between, 1), COARSE_SLICE_MM))]
    # The extent of the median scan, bounded by what a training step can hold.
    voxels = np.minimum(np.median([case.extent for case in cases], axis=0), COARSE_FIELD_MM) / coarse
    rounded = [COARSE_MULTIPLE * round(size / COARSE_MULTIPLE) for size in voxels.tolist()]
    apart = {organ: [case.organs[organ].apart for case in cases if organ in case.organs] for organ in organs}
    whole = [organ for organ, shares in apart.items() if shares and np.quantile(shares, 0.95) <= MAX_APART]
    lists = {"organs": list(organs), "one_piece": whole, "phases": list(phases)}
    named = yaml.safe_dump(lists, sort_keys=False, allow_unicode=True)
    text = f"""\
# {name}. Overrides train.yaml. Written by scripts.prepare; a starting point (one_piece: connected in the labels).

+initialize: {{_target_: scripts.runtime.composition.require_base}}
{named}\
spacing: {[pixel, pixel, between]}   # mm, the median of the scans within bounds
coarse_spacing: {coarse}   # mm
+query_planner: {{patch_size: {patch}}}   # {patch} x {pixel:g} mm = {patch * pixel:.0f} mm
+coarse: {{}}
+coarse::stage: {{patch_size: {np.clip(rounded, *COARSE_VOXELS).tolist()}}}   # voxels of the coarse grid
"""
    if not path.exists():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        logger.warning("%s is kept although it differs (edited?); delete it to have it written anew.", path)
