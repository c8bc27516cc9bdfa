"""The stored results of a study as tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from development.study.plan import COARSE_STAGE, NO_REGIME
from scripts.evaluation.summary import read_scores

GROUP = ["regime", "labelled"]
"""Runs that are compared with one another have these in common."""

STAGES = ("coarse_core_seconds", "contrastive_core_seconds", "segmentation_core_seconds")

COSTS = "costs.json"
"""In the folder of the results: core-seconds per epoch of arms and stages, by `python -m development.study costs`."""


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a run."""
    content: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return content


def result_folders(results_dir: Path) -> list[Path]:
    """Folders of the runs whose results are stored."""
    return sorted(path.parent for path in results_dir.glob("*/*/*/seed*/run.json"))


def read_results(results_dir: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All scores, and one row for every run.

    Runs that have no regime, since their arm has no coarse stage, count in every regime.

    Returns:
        Scores (regime, labelled, arm, seed and the columns of `CaseScore`) and records (the same four, title,
        core-seconds, seconds, memory). Core-seconds are the epochs times what they were measured to cost, or what the
        runs took where nothing was measured.

    Raises:
        FileNotFoundError: nothing is stored there.
    """
    folders = result_folders(Path(results_dir))
    if not folders:
        raise FileNotFoundError(f"no results in {results_dir}: run `python -m development.study run` first.")
    scores, records, costs = [], [], read_costs(Path(results_dir))
    for folder in folders:
        record = read_record(folder)
        key = {name: record[name] for name in ("regime", "labelled", "arm", "seed")}
        scores.append(read_scores(folder / "scores.csv").assign(**key))
        records.append({**_plain(record), **core_seconds_by_stage(record, costs)})
    return _in_every_regime(pd.concat(scores, ignore_index=True)), _in_every_regime(pd.DataFrame(records))


def read_costs(results_dir: Path) -> dict[str, Any] | None:
    """What epochs cost, or None if nobody measured it."""
    path = results_dir / COSTS
    content: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return content


def stage_kind(name: str) -> str:
    """Stage that a checkpoint belongs to: coarse, contrastive or segmentation.

    Example: coarse_fold0 is of the coarse stage.
    """
    return name.partition("_")[0]


def core_seconds_by_stage(record: dict[str, Any], costs: dict[str, Any] | None = None) -> dict[str, float]:
    """Core-seconds of the coarse networks together, of the contrastive and of the segmentation stage, and their sum.

    Args:
        record: of a run.
        costs: content of costs.json; None: what the run itself took. What is missing in it is not a number.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    for name, stage in record["stages"].items():
        kind, took = stage_kind(name), float(stage["core_seconds"])
        if costs is not None:
            took = stage["epochs"] * _cost_of_epoch(costs["core_seconds_per_epoch"], record, kind)
        seconds[f"{kind}_core_seconds"] += took
    return {**seconds, "training_core_seconds": sum(seconds.values())}


def _cost_of_epoch(costs: dict[str, dict[str, dict[str, float]]], record: dict[str, Any], kind: str) -> float:
    """Of a mean the parts are those of its members, which have the stage."""
    arm = COARSE_STAGE if kind == "coarse" else record["arm"]
    arms = [arm, *record.get("members", [])]
    for regime in (record["regime"], NO_REGIME):
        for name in arms:
            if kind in costs.get(regime, {}).get(name, {}):
                return costs[regime][name][kind]
    return math.nan


def _plain(record: dict[str, Any]) -> dict[str, str | int | float]:
    return {name: value for name, value in record.items() if isinstance(value, str | int | float)}


def _in_every_regime(frame: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows without a regime in every regime that has as many labelled patients."""
    free = frame["regime"] == NO_REGIME
    groups = frame.loc[~free, GROUP].drop_duplicates()
    repeated = frame[free].drop(columns="regime").merge(groups, on="labelled", how="left")
    return pd.concat([frame[~free], repeated.fillna({"regime": NO_REGIME})], ignore_index=True)
