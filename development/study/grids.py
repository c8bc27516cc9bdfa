"""What a grid costs before any training: the Dice of the contours themselves, put on the grid as labels and back.

    python -m development.study.grids --dataset_dir DATASET --spacing 4.5 4.5 4 --spacing 3 3 3

A network that answers with labels on this grid can hardly do better. Use it to choose `spacing` and `coarse_spacing`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.metrics import DiceHelper
from torch import Tensor
from tqdm import tqdm

from scripts.dataset.datalist_file import datalist_path, read_datalist
from scripts.dataset.datalists import load_cases
from scripts.dataset.label_values import organs_of_datalist
from scripts.evaluation.intervals import macro_mean
from scripts.evaluation.score_tables import markdown_table
from scripts.preprocessing.organ_labels import load_organ_labels
from scripts.preprocessing.resampling import resample_labels
from scripts.preprocessing.working_grid import ToWorkingGrid, check_spacing
from scripts.runtime.plain_errors import start_command


def through_grid(labels: MetaTensor, spacing: Sequence[float]) -> Tensor:
    """Labels [1, x, y, z] of a scan on a grid of a spacing (mm), as in training, and back: [x, y, z] uint8."""
    grid = ToWorkingGrid(spacing)(MetaTensor(labels.float(), affine=labels.affine))
    there = resample_labels(labels.as_tensor()[0], labels.affine, grid.affine, grid.shape[1:])
    return resample_labels(there, grid.affine, labels.affine, labels.shape[1:])


def dice_through_grid(case: Mapping[str, Any], organs: Sequence[str], spacing: Sequence[float]) -> list[float]:
    """Dice of every organ's contour with itself after the grid; NaN where the case has none."""
    labels = load_organ_labels(case, organs)
    dice = DiceHelper(include_background=False, num_classes=1 + len(organs), reduction="none", get_not_nans=False)
    found = dice(through_grid(labels, spacing)[None, None].long(), labels.as_tensor()[None].long())
    return [float(value) for value in found[0]]


def format_grids(rows: Mapping[str, np.ndarray], organs: Sequence[str]) -> str:
    """Markdown table of mean Dice by organ and their macro mean; rows are [case, organ] by the name of the grid."""
    body = []
    for name, dice in rows.items():
        shown = [dice[~np.isnan(dice[:, n]), n] for n in range(len(organs))]
        means = [f"{values.mean():.3f}" if len(values) else "-" for values in shown]
        body.append([name, *means, f"{float(macro_mean(dice)):.3f}"])
    return markdown_table(["grid, mm", *organs, "macro mean"], body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, one row for each spacing."""
    start_command()
    parser = argparse.ArgumentParser(
        prog="python -m development.study.grids",
        description="Print the Dice that contours keep on a grid and back: what a spacing costs before any training.",
    )
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--split", default="validation", help="split that is read (default: %(default)s)")
    parser.add_argument("--spacing", nargs=3, type=float, action="append", required=True, help="mm; may be repeated")
    options = parser.parse_args(arguments)
    grids = [check_spacing(spacing) for spacing in options.spacing]
    path = datalist_path(options.dataset_dir)
    organs = organs_of_datalist(read_datalist(path), path)
    cases = load_cases(options.dataset_dir, options.split, organs, labelled=True)
    rows = {
        " x ".join(f"{mm:g}" for mm in spacing): np.array(
            [dice_through_grid(case, organs, spacing) for case in tqdm(cases, desc=f"{spacing}", unit="scan")]
        )
        for spacing in grids
    }
    print(format_grids(rows, organs))


if __name__ == "__main__":
    main()
