"""The last steps of preparing data of one's own: check, datalist, report, config, and if wanted the training."""

from __future__ import annotations

import argparse
import logging
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.dataset.datalist_file import split_names
from scripts.dataset_report.__main__ import report_dataset
from scripts.files.result_files import claim_outputs
from scripts.prepare.cohort_config import write_overlay
from scripts.prepare.datalist_writer import DATALIST, check_datalist, claim_datalists, files_listed, write_datalist
from scripts.runtime.plain_errors import bundle_command

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
        "--config",
        nargs="+",
        default=[],
        metavar="YAML",
        help="further overlays for the training, merged after cohort.yaml",
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
