"""The stored results of a study: scores.csv.xz, a row per run, case and organ, and runs.jsonl, a line per run."""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from development.study.plan import COARSE_STAGE, NO_REGIME
from scripts.evaluation.summary import METRICS, read_scores

SCORES, RUNS = "scores.csv.xz", "runs.jsonl"
GROUP = ["regime", "labelled"]
"""Runs that are compared with one another have these in common."""

KEY = [*GROUP, "arm", "seed"]
STAGES = ("coarse", "contrastive", "segmentation")
Costs = Mapping[tuple[str, str], Mapping[str, float]]
"""Core-seconds of an epoch of each stage, by regime and arm."""


class Results:
    """Reads the two files, and only ever appends to them.

    A run's line follows its rows and says that it is done. Every append is one write, so that several processes may
    add different runs to the same files. The first run that is added makes the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / RUNS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.records: dict[str, dict[str, Any]] = {one["run"]: one for one in map(json.loads, lines)}

    def add(self, record: Mapping[str, Any], scores: pd.DataFrame) -> None:
        """Append the scores of a run and its record, whose `run` is its name."""
        rounded = {name: "float32" for name in METRICS if name in scores}  # counts of photographs have none
        rows = scores.assign(run=record["run"])[["run", *scores.columns]].astype(rounded)
        text = rows.to_csv(index=False, header=not (self.folder / SCORES).exists())
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((SCORES, lzma.compress(text.encode())), (RUNS, f"{json.dumps(record)}\n".encode())):
            with (self.folder / name).open("ab", buffering=0) as file:
                file.write(content)
        self.records[record["run"]] = dict(record)

    def tables(self, costs: Results | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """All scores, and one row for every run; runs without a regime count in every regime.

        With results of short runs (`costs`), core-seconds are the epochs times what an epoch took there.

        Returns:
            Scores (regime, labelled, arm, seed and the columns of `CaseScore`) and records (the same four, title,
            core-seconds).

        Raises:
            FileNotFoundError: nothing is stored there.
        """
        if empty := [one.folder for one in (self, costs) if one is not None and not one.records]:
            raise FileNotFoundError(f"no results in {empty[0]}: run `python -m development.study run` first.")
        short = costs.records.values() if costs else ()
        per_epoch = {(record["regime"], record["arm"]): core_seconds_per_epoch(record) for record in short}
        records = pd.DataFrame(
            {name: record[name] for name in ["run", *KEY, "title"]} | core_seconds_by_stage(record, per_epoch)
            for record in self.records.values()
        )
        scores = read_scores(self.folder / SCORES).drop(columns="seed")
        scores = scores.drop_duplicates(["run", "case", "organ"], keep="last")  # of a run that was cut short
        return _in_every_regime(scores.merge(records[["run", *KEY]], on="run")), _in_every_regime(records)


def stage_kind(name: str) -> str:
    """Stage that a checkpoint belongs to: coarse (coarse_fold0 too), contrastive or segmentation."""
    return name.partition("_")[0]


def core_seconds_by_stage(record: Mapping[str, Any], costs: Costs | None = None) -> dict[str, float]:
    """Core-seconds of the coarse networks together, of the contrastive and of the segmentation stage, and their sum.

    Without `costs`, what the run itself took counts; a stage that is missing in them is not a number.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    for name, stage in record["stages"].items():
        kind, took = stage_kind(name), float(stage["core_seconds"])
        if costs:
            took = stage["epochs"] * _cost_of_epoch(costs, record, kind)
        seconds[kind] += took
    return {**seconds, "all_stages": sum(seconds.values())}


def core_seconds_per_epoch(record: Mapping[str, Any]) -> dict[str, float]:
    """Core-seconds of an epoch of each stage, as the run took them; the coarse networks together."""
    seconds = core_seconds_by_stage(record)
    epochs: dict[str, float] = {}
    for name, stage in record["stages"].items():
        epochs[stage_kind(name)] = epochs.get(stage_kind(name), 0.0) + stage["epochs"]
    return {kind: round(seconds[kind] / count, 2) for kind, count in epochs.items()}


def _cost_of_epoch(costs: Costs, record: Mapping[str, Any], kind: str) -> float:
    """Of a mean the parts are those of its members, which have the stage."""
    arms = [COARSE_STAGE if kind == "coarse" else record["arm"], *record.get("members", [])]
    found = (costs.get((regime, arm), {}).get(kind) for regime in (record["regime"], NO_REGIME) for arm in arms)
    return next((cost for cost in found if cost is not None), math.nan)


def _in_every_regime(frame: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows without a regime in every regime that has as many labelled patients."""
    free = frame["regime"] == NO_REGIME
    groups = frame.loc[~free, GROUP].drop_duplicates()
    repeated = frame[free].drop(columns="regime").merge(groups, on="labelled", how="left")
    return pd.concat([frame[~free], repeated.fillna({"regime": NO_REGIME})], ignore_index=True)
