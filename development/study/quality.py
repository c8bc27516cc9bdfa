"""The command `python -m development.study quality`: how well a quality score tells good results from bad ones.

    python -m development.study quality runs/mine/evaluation
    python -m development.study quality docs/results/btcv/signals.csv.xz --leave_out fold

Estimated Dice is by a calibration on the other patients, or folds. Plain signals stand beside it, where a table has
them: its columns are case, organ, dice, soft_dice, what `--leave_out` names, and further signals, higher for better.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from scripts.evaluation.intervals import SEED
from scripts.evaluation.quality import estimate, fit, read_signals
from scripts.evaluation.score_tables import markdown_table
from scripts.outputs.measures import LOOK_AT

RESAMPLES = 1000
GROUPS = 10
ESTIMATE = "estimated Dice"
MEASURES = (f"AUROC, Dice < {LOOK_AT}", "rank correlation", "within an organ", "calibration error")
KNOWN = ("case", "fold", "class_index", "dice", "hd95_mm", "surface_dice", "reference_ml", "prediction_ml")
"""Columns of numbers that are no signal."""


def held_out(frame: pd.DataFrame, left_out: str, added: str | None = None) -> NDArray[np.float64]:
    """Estimated Dice of each row, by a calibration on the rows that differ from it in a column.

    An `added` signal takes part as the second variable of a linear regression on these rows, beside the estimate.
    """
    estimates = np.zeros(len(frame))
    for name in frame[left_out].unique():
        own = (frame[left_out] == name).to_numpy()
        known, unseen = frame[~own], frame[own]
        calibration = fit(known["organ"].tolist(), known["soft_dice"].tolist(), known["dice"].tolist())
        one, other = (estimate(calibration, part["organ"].tolist(), part["soft_dice"].tolist())
                      for part in (known, unseen))  # fmt: skip
        if added:
            columns = [np.column_stack([np.ones(len(part)), values, part[added]])
                       for part, values in ((known, one), (unseen, other))]  # fmt: skip
            weights = np.linalg.lstsq(columns[0], known["dice"].to_numpy(), rcond=None)[0]
            other = np.clip(columns[1] @ weights, 0, 1).tolist()
        estimates[own] = other
    return estimates


def measures(signal: NDArray[np.float64], dice: NDArray[np.float64], organ: NDArray[np.int64]) -> list[float]:
    """The MEASURES of a signal; organs are numbered.

    The rank correlation within an organ is the mean over organs, the calibration error the mean distance of signal and
    Dice in ten groups of similar signal.
    """
    bad, ranks = dice < LOOK_AT, rankdata(-signal)
    pairs = bad.sum() * (~bad).sum()
    area = (ranks[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / pairs if pairs else np.nan
    within = [rank_correlation(signal[organ == index], dice[organ == index]) for index in np.unique(organ)]
    groups = np.array_split(np.argsort(signal, kind="stable"), GROUPS)
    distances = [abs(signal[group].mean() - dice[group].mean()) for group in groups if len(group)]
    weights = [len(group) for group in groups if len(group)]
    return [area, rank_correlation(signal, dice), np.nanmean(within), np.average(distances, weights=weights)]


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's, NaN of fewer than three or of constant values."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def rows_of(frame: pd.DataFrame, signals: Sequence[str]) -> list[list[str]]:
    """A row for each signal: its measures with 95 % bootstrap intervals, for which whole patients are drawn."""
    rng, organ = np.random.default_rng(SEED), pd.factorize(frame["organ"])[0]
    of_patient = [np.flatnonzero(frame["case"] == case) for case in frame["case"].unique()]
    draws = [np.concatenate([of_patient[n] for n in rng.integers(0, len(of_patient), len(of_patient))])
             for _ in range(RESAMPLES)]  # fmt: skip
    dice, rows = frame["dice"].to_numpy(), []
    for name in signals:
        signal = frame[name].to_numpy(dtype=float)
        drawn = np.array([measures(signal[draw], dice[draw], organ[draw]) for draw in draws])
        ends = np.nanpercentile(drawn, [2.5, 97.5], axis=0).T
        whole = measures(signal, dice, organ)
        cells = [f"{value:.2f} ({low:.2f} to {high:.2f})" for value, (low, high) in zip(whole, ends, strict=True)]
        if signal.min() < 0 or signal.max() > 1:
            cells[3] = "-"
        rows.append([name.replace("_", " "), *cells])
    return rows


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m development.study quality", None, __doc__, formatter_class=form)
    parser.add_argument("tables", nargs="+", help="a CSV table, or output folders of the evaluate workflow")
    parser.add_argument("--leave_out", default="case", help="column; rows of one value are estimated by the others")
    parser.add_argument("--add", nargs="+", default=[], help="columns; show what each adds to the estimate")
    options = parser.parse_args(arguments)
    one_table = options.tables[0].endswith((".csv", ".csv.xz"))
    frame = pd.read_csv(options.tables[0]) if one_table else read_signals(options.tables)
    frame[ESTIMATE] = held_out(frame, options.leave_out)
    numbers = frame.select_dtypes("number").columns
    signals = [ESTIMATE, *(name for name in numbers if name not in (*KNOWN, ESTIMATE, options.leave_out))]
    for name in options.add:
        frame[f"{ESTIMATE} and {name}"] = held_out(frame, options.leave_out, name)
        signals.insert(1, f"{ESTIMATE} and {name}")
    bad = int((frame["dice"] < LOOK_AT).sum())
    print(f"{len(frame)} results in {frame['case'].nunique()} scans, {bad} with a Dice below {LOOK_AT}\n")
    print(markdown_table(["signal", *MEASURES], rows_of(frame, signals)))
    return 0
