"""The last steps of preparing data of one's own: check, datalist, report, config, and if wanted the training."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.dataset.datalist_file import split_names
from scripts.dataset_report.__main__ import report_dataset
from scripts.dataset_report.measure import CaseMeasure
from scripts.files.atomic_write import replacing
from scripts.files.result_files import claim_outputs
from scripts.prepare.datalist_writer import DATALIST, check_datalist, claim_datalists, files_listed, write_datalist
from scripts.runtime.running_config import bundle_command

ROOT = Path(__file__).resolve().parents[2]
REPORT, OVERLAY = "report.html", "cohort.yaml"
logger = logging.getLogger(__name__)


def write_cohort(
    output_dir: str, folds: Sequence[Mapping[str, Any]], organs: Sequence[str], inputs: Sequence[Path] = ()
) -> list[Path]:
    """Check a cohort and write its datalists, report and config; nothing is written if there is a problem.

    Args:
        output_dir: gets ``dataset.json`` (of several folds ``fold0/dataset.json`` and so on), ``report.html`` and
            ``cohort.yaml``.
        folds: a datalist for each fold, with absolute paths; all list the same cases.
        organs: what is to be segmented, in the order of the class indices.
        inputs: files other than scans and labels that were read, and must not be written over.

    Returns:
        The folders of the datalists.

    Raises:
        ValueError: entries or files have problems, all are named; or an input or earlier file would be written over.
    """
    output = Path(output_dir).absolute()
    folders = [output] if len(folds) == 1 else [output / f"fold{number}" for number in range(len(folds))]
    made = [output / REPORT, output / OVERLAY]
    claim_outputs([*(folder / DATALIST for folder in folders), *made], [*inputs, *files_listed(folds[0])])
    claim_datalists(folders, folds, made)
    phases = phases_of(folds[0])
    warnings = check_datalist(folds[0], organs, phases).warnings
    for warning in warnings:
        logger.warning(warning)
    for folder, content in zip(folders, folds, strict=True):
        write_datalist(folder, content)
    cases = report_dataset(str(folders[0]), str(output / REPORT), organs, warnings)
    name = str(folds[0].get("name") or output.name)
    write_overlay(output / OVERLAY, name, organs, phases, [case for case in cases if not case.failure])
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
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="YAML", help="further overlays of the training, after cohort.yaml"
    )


def train_or_tell(folders: Sequence[Path], output_dir: str, run_dir: str | None, config: Sequence[str]) -> int:
    """Print the commands for every fold, and start the trainings if a run folder is given; return the exit status."""
    overlay = Path(output_dir).absolute() / OVERLAY
    configs = ["configs/train.yaml", str(overlay), *(str(Path(name).absolute()) for name in config)]
    runs = [Path(run_dir or "runs/mine").absolute() / (folder.name if len(folders) > 1 else "") for folder in folders]
    trainings = [
        bundle_command("training", configs, dataset_dir=str(folder), output_dir=str(run))
        for folder, run in zip(folders, runs, strict=True)
    ]
    print(f"Look at {overlay.with_name(REPORT)} and {overlay}. Training, evaluation and inference, from {ROOT}:")
    for folder, run, training in zip(folders, runs, trainings, strict=True):
        where = {"dataset_dir": folder, "run_dir": run}
        evaluation = bundle_command("evaluate", ["configs/evaluate.yaml"], output_dir=run / "evaluation", **where)
        inference = bundle_command("inference", ["configs/inference.yaml"], output_dir=run / "segmentations", **where)
        for command in (training, evaluation, inference):
            print(f"    python {shlex.join(command)}", flush=True)
    for training in trainings if run_dir else ():
        if code := subprocess.run([sys.executable, *training], cwd=ROOT, check=False).returncode:
            return code
    return 0


# Our choices, a starting point: finer costs time that organs do not repay; pixels coarser than 3 mm lose small ones.
PIXEL_MM, SLICE_MM = (0.8, 3.0), (2.0, 5.0)
FIELD_OF_VIEW_MM = 192
PATCH_PIXELS = (48, 128)
PATCH_MULTIPLE = 16
COARSE_PIXEL_MM, COARSE_SLICE_MM = 2.0, 6.0
COARSE_FIELD_MM = (256.0, 256.0, 240.0)
COARSE_MULTIPLE = 8
COARSE_VOXELS = (16, 168)


def write_overlay(
    path: str | os.PathLike[str], name: str, organs: Sequence[str], phases: Sequence[str], cases: Sequence[CaseMeasure]
) -> Path:
    """Write a config that overrides train.yaml; one that is there with other content is kept.

    Args:
        path: the YAML file.
        name: name of the cohort.
        organs: organs to segment, in the order of the class indices.
        phases: contrast phases; empty if they are not used.
        cases: the measured scans.
    """
    spacing, coarse = working_spacing(cases), coarse_spacing(cases)
    patch, coarse_patch = patch_size(spacing), coarse_patch_size(cases, coarse)
    lines = [
        f"# {name}. Overrides train.yaml. Written by scripts.prepare; a starting point.",
        "",
        "organs:",
        *(f"- {organ}" for organ in organs),
        f"phases: [{', '.join(phases)}]",
        f"spacing: {_listed(spacing)}   # mm, the median of the scans within bounds",
        f"coarse_spacing: {_listed(coarse)}   # mm",
        f"query_planner::patch_size: {patch}   # {patch} x {spacing[0]:g} mm = {patch * spacing[0]:.0f} mm",
        f"coarse::stage::patch_size: {_listed(coarse_patch)}   # voxels of the coarse grid",
    ]
    text = "\n".join(lines) + "\n"
    if not os.path.exists(path):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif Path(path).read_text(encoding="utf-8") != text:
        logger.warning("%s is kept although it differs (edited?); delete it to have it written anew.", path)
    return Path(path)


def working_spacing(cases: Sequence[CaseMeasure]) -> list[float]:
    """Median spacing of the scans in mm, rounded and within bounds, axes R-L, A-P, S-I."""
    pixel = float(np.median([size for case in cases for size in case.spacing[:2]]))
    between = float(np.median([case.spacing[2] for case in cases]))
    pixel, between = round(float(np.clip(pixel, *PIXEL_MM)), 1), round(float(np.clip(between, *SLICE_MM)), 1)
    return [pixel, pixel, between]


def coarse_spacing(cases: Sequence[CaseMeasure]) -> list[float]:
    """Twice the working spacing; between slices at most 6 mm, or what the slices have."""
    pixel, _, between = working_spacing(cases)
    coarse = max(COARSE_PIXEL_MM, round(2 * pixel, 1))
    return [coarse, coarse, max(between, min(round(2 * between, 1), COARSE_SLICE_MM))]


def patch_size(spacing: Sequence[float]) -> int:
    """Pixels of a query patch: about 192 mm, a multiple of 16, at most the 128 pixels of the public code."""
    pixels = PATCH_MULTIPLE * round(FIELD_OF_VIEW_MM / spacing[0] / PATCH_MULTIPLE)
    return int(np.clip(pixels, *PATCH_PIXELS))


def coarse_patch_size(cases: Sequence[CaseMeasure], spacing: Sequence[float]) -> list[int]:
    """Voxels of a coarse patch: the extent of the median scan, bounded by what a training step can hold."""
    extent = np.median([case.extent for case in cases], axis=0)
    voxels = np.minimum(extent, COARSE_FIELD_MM) / np.asarray(spacing)
    return [int(np.clip(COARSE_MULTIPLE * round(size / COARSE_MULTIPLE), *COARSE_VOXELS)) for size in voxels.tolist()]


def _listed(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values) + "]"
