"""IoU of several runs on photographs: side by side by class, or the arms of a study with intervals.

    python -m development.study.iou_table slice/iou.csv final/iou.csv --names slice final
    python -m development.study.iou_table docs/results/voc/scores.csv.xz

The first form reads an `iou.csv` of each evaluation; seeds of one name are averaged. The second reads the pixel counts
of each photograph that a study keeps. Its intervals are percentile bootstraps over photographs, after averaging the
mean IoU over seeds: whole photographs are drawn, and the IoU is computed anew from all pixels of those drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.evaluation.intervals import CONFIDENCE, RESAMPLES, SEED
from scripts.evaluation.pixel_scores import COLUMNS, with_means
from scripts.evaluation.score_tables import markdown_table, read_runs
from scripts.files.result_files import SUFFIXES
from scripts.runtime.plain_errors import install_plain_errors

COUNTS = ("case", "class_index", "predicted_index", "pixels", "core_seconds")
"""Columns of the pixel counts: a row for each pair of classes that occurs in a photograph."""

SLICE, ATTENTION = "slice", "attention_only"
"""Arms that the others are compared with."""


def pixel_counts(folder: Path, core_seconds: float) -> pd.DataFrame:
    """The confusion matrix of every photograph that an evaluation scored there, with what its training cost."""
    rows, ending = [], SUFFIXES["pixel_counts"]
    for file in sorted(folder.glob(f"*{ending}")):
        matrix = np.array(json.loads(file.read_text(encoding="utf-8")))
        for true, predicted in zip(*matrix.nonzero(), strict=True):
            rows.append((file.name.removesuffix(ending), true, predicted, matrix[true, predicted], core_seconds))
    return pd.DataFrame(rows, columns=list(COUNTS))


def iou_table(runs: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Markdown: a row for each class, a column for each name; several runs of a name give their mean and range."""
    columns = {name: pd.concat([with_means(frame) for frame in frames], axis=1) for name, frames in runs.items()}
    rows = next(iter(columns.values())).index
    body = [[str(row), *(_cell(of_name.loc[row].dropna().to_numpy()) for of_name in columns.values())] for row in rows]
    return markdown_table(["class", *columns], body)


def arms_table(counts: pd.DataFrame) -> str:
    """Markdown: cost, mean IoU with its range over seeds, and differences with intervals; a row for each arm."""
    parts = counts["run"].str.rsplit("/", n=2)  # REGIME/LABELLED/ARM/seedK
    counts = counts.assign(arm=parts.str[1])
    several = parts.str[0].groupby(parts.str[1]).unique().loc[lambda found: found.str.len() > 1]
    for arm, found in several.items():
        raise ValueError(f"runs of {arm} are of {' and '.join(found)}, regimes or numbers of labels: give one of them.")
    cases = sorted(counts["case"].unique())
    classes = 1 + int(counts[["class_index", "predicted_index"]].to_numpy().max())
    drawn = np.random.default_rng(SEED).multinomial(len(cases), np.full(len(cases), 1 / len(cases)), RESAMPLES)
    weights = np.concatenate([np.ones_like(drawn[:1]), drawn])  # the first row is the set itself
    ious = {
        str(arm): np.stack([_ious(run, cases, classes, weights) for _, run in of_arm.groupby("seed")])
        for arm, of_arm in counts.groupby("arm", sort=False)
    }
    body = []
    for arm, of_seeds in ious.items():
        mean, organs = np.nanmean(of_seeds, axis=2)[:, 0], np.nanmean(of_seeds[:, 0, 1:], axis=1)
        cost = counts[counts["arm"] == arm].groupby("seed")["core_seconds"].first().mean()
        differences = [
            _difference(of_seeds, ious[other]) if other in ious and other != arm else "" for other in (SLICE, ATTENTION)
        ]
        body.append([arm, str(len(of_seeds)), f"{cost:.0f}", _cell(mean), _cell(organs), *differences])
    header = ["arm", "seeds", "core-seconds", "mIoU", "without background", f"to {SLICE}, points", f"to {ATTENTION}"]
    return markdown_table(header, body)


def _ious(run: pd.DataFrame, cases: Sequence[str], classes: int, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU [weighting, class] of one run, whose photographs count `weights` [weighting, photograph] times."""
    matrices = np.zeros((len(cases), classes, classes))
    place = run["case"].map({case: number for number, case in enumerate(cases)})
    matrices[place, run["class_index"], run["predicted_index"]] = run["pixels"]
    common, true, predicted = (
        weights @ part for part in (matrices.diagonal(axis1=1, axis2=2), matrices.sum(2), matrices.sum(1))
    )
    with np.errstate(invalid="ignore"):
        ious: NDArray[np.float64] = common / (true + predicted - common)
    return ious


def _difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Difference of the mean IoU, averaged over seeds, in points, with its interval over photographs."""
    value, *drawn = 100 * (np.nanmean(one, axis=2).mean(axis=0) - np.nanmean(other, axis=2).mean(axis=0))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _cell(values: NDArray[np.float64]) -> str:
    """Mean of what is known, with the range of several."""
    if len(values) == 0:
        return "-"
    mean = f"{values.mean():.3f}"
    return mean if len(values) == 1 else f"{mean} ({values.min():.3f}-{values.max():.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study.iou_table", description="Print the IoU of several runs on photographs."
    )
    parser.add_argument("files", nargs="+", help="iou.csv of each run, or FILE::RUN; or the scores of one study")
    parser.add_argument("--names", nargs="+", help="a name for each iou.csv; one name for seeds of a run")
    given = parser.parse_args(arguments)
    if not given.names and len(given.files) == 1:
        print(arms_table(read_runs(given.files[0], COUNTS)))
        return 0
    names = given.names or []
    if len(names) != len(given.files):
        parser.error(f"{len(given.files)} files and {len(names)} names; give a name for each file.")
    runs: dict[str, list[pd.DataFrame]] = {}
    for name, file in zip(names, given.files, strict=True):
        runs.setdefault(name, []).append(read_runs(file, COLUMNS))
    print(iou_table(runs))
    return 0


if __name__ == "__main__":
    install_plain_errors()
    raise SystemExit(main())
