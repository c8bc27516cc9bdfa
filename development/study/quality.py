"""The command `python -m development.study quality`: how well a quality score tells good results from bad ones.

    python -m development.study quality runs/mine/evaluation
    python -m development.study quality docs/results/btcv/signals.csv.xz --leave_out fold
    python -m development.study quality runs/signals.csv --dataset_dir DATASET --run_dir runs/mine

Estimated Dice is by a calibration on the other patients, or folds. Plain signals stand beside it, where a table has
them: its columns are case, organ, dice, soft_dice, what `--leave_out` names, and further signals, higher for better.
With `--run_dir` the validation scans are segmented and measured first; the rows are appended to the table. Folds have
their own `--dataset_dir`, `--run_dir` and `--fold`, in one command each. `--embedding` measures how far the embedded
queries of an organ lie from the means of the classes in training (:mod:`development.study.embedding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from torch import Tensor
from tqdm import tqdm

from development.baselines.coarse_channels import CoarseOnly
from development.study.embedding import ClassDistances, open_run
from scripts.evaluation.intervals import SEED
from scripts.evaluation.quality import estimate, fit, read_signals, soft_dice
from scripts.evaluation.score_tables import markdown_table
from scripts.inference.predictor import TwoStagePredictor
from scripts.outputs.measures import LOOK_AT
from scripts.runtime.plain_errors import command_parser

RESAMPLES = 1000
GROUPS = 10
ESTIMATE = "estimated Dice"
MEASURES = (f"AUROC, Dice < {LOOK_AT}", "rank correlation", "within an organ", "calibration error")
KNOWN = ("case", "fold", "class_index", "dice", "hd95_mm", "surface_dice", "reference_ml", "prediction_ml")
"""Columns of numbers that are no signal."""
NEAR, UNSURE = 0.05, (0.2, 0.8)
"""Score from which a voxel counts for the entropy, and between which it is uncertain."""
Row = dict[str, Any]


def overlap(one: Tensor, other: Tensor) -> float:
    """Dice of two masks, of which one has a voxel."""
    return 2 * int((one & other).sum()) / int(one.sum() + other.sum())


def plain_signals(scores: Tensor, coarse: Tensor, truth: Tensor) -> dict[int, Row]:
    """Dice and signals, by class index, of each organ that is in the truth [x, y, z] and was found.

    Class scores [class, x, y, z] are those of the whole network and of its coarse stage. Uncertain share and entropy
    have a negative sign, so that higher is better; both are by voxel that was found.
    """
    found, first, soft = scores.max(dim=0).indices, coarse.max(dim=0).indices, soft_dice(scores)
    rows = {}
    for index in range(1, len(scores)):
        own, true, score = found == index, truth == index, scores[index].double()
        if not own.any() or not true.any():
            continue
        uncertain = (score > UNSURE[0]) & (score < UNSURE[1])
        close = score[own | (score > NEAR)]
        rows[index] = {
            "dice": overlap(own, true),
            "soft_dice": soft[index - 1],
            "mean_probability": float(score[own].mean()),
            "uncertain_share": -int(uncertain.sum()) / int(own.sum()),
            "entropy": -float(torch.special.entr(torch.stack([close, 1 - close])).sum() / own.sum()),
            "stage_agreement": overlap(own, first == index),
        }
    return rows


@torch.no_grad()
def measured(dataset_dir: str, run_dir: str, embedding: bool) -> pd.DataFrame:
    """Signals of the validation scans by the network of a run: case, organ, dice, and the signals.

    Raises: ValueError if the network of the run does not have two stages.
    """
    get, rows = open_run(dataset_dir, run_dir), list[Row]()
    network, store, inferer, organs = (get(name) for name in ("network", "slice_store", "inferer", "organs"))
    if not isinstance(network, TwoStagePredictor):
        raise ValueError(f"{run_dir} trained a {type(network).__name__}, which has no second stage: give another run.")
    distances = ClassDistances(get) if embedding else None
    for case in tqdm(get("validation_cases"), desc="measuring", unit="scan"):
        stored = store.open(case)
        scores, coarse = (inferer(stored.volume()[None].float(), part)[0] for part in (network, CoarseOnly(network)))
        found = plain_signals(scores, coarse, stored.label.permute(1, 2, 0))
        signals = {index: row for index, row in found.items() if index in stored.annotated}
        if distances and signals:
            of_scan = distances(case)
            signals = {index: row | of_scan[index] for index, row in signals.items()}
        rows += [{"case": stored.name, "organ": organs[index - 1], **row} for index, row in signals.items()]
    return pd.DataFrame(rows)


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
    bad = dice < LOOK_AT
    within = [rank_correlation(signal[organ == index], dice[organ == index]) for index in np.unique(organ)]
    groups = np.array_split(np.argsort(signal, kind="stable"), GROUPS)
    distances = [abs(signal[group].mean() - dice[group].mean()) for group in groups if len(group)]
    weights = [len(group) for group in groups if len(group)]
    return [
        auroc(-signal[bad], -signal[~bad]),
        rank_correlation(signal, dice),
        np.nanmean(within),
        np.average(distances, weights=weights),
    ]


def auroc(bad: NDArray[np.float64], good: NDArray[np.float64]) -> float:
    """Share of pairs in which the bad one has the higher value; equal ones count half. NaN without a pair."""
    if not len(bad) * len(good):
        return float("nan")
    ranks = rankdata(np.concatenate([bad, good]))[: len(bad)]
    return float((ranks.sum() - len(bad) * (len(bad) + 1) / 2) / (len(bad) * len(good)))


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
    parser = command_parser("development.study quality", __doc__)
    parser.add_argument("tables", nargs="+", help="a CSV table, or output folders of the evaluate workflow")
    parser.add_argument("--run_dir", help="folder of a training; append the signals of its validation scans first")
    parser.add_argument("--dataset_dir", help="with dataset.json, for --run_dir")
    parser.add_argument("--fold", type=int, default=0, help="number of the run in the table (default: %(default)s)")
    parser.add_argument("--embedding", action="store_true", help="measure distances of embedded queries as well")
    parser.add_argument("--leave_out", default="case", help="column; rows of one value are estimated by the others")
    parser.add_argument("--add", nargs="+", default=[], help="columns; show what each adds to the estimate")
    options = parser.parse_args(arguments)
    if options.run_dir:
        path = Path(options.tables[0])
        rows = measured(options.dataset_dir, options.run_dir, options.embedding)
        rows.insert(0, "fold", options.fold)
        rows.round(4).to_csv(path, mode="a", header=not path.exists(), index=False)
    one_table = options.tables[0].endswith((".csv", ".csv.xz"))
    frame = pd.read_csv(options.tables[0]) if one_table else read_signals(options.tables)
    frame = frame.drop_duplicates(ignore_index=True)  # the same command twice
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
