"""The stored results of a study as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.evaluation.summary import read_scores
from scripts.study.plan import NO_REGIME

GROUP = ["regime", "labelled"]
"""Runs that are compared with one another have these in common."""

STAGES = ("coarse_core_seconds", "contrastive_core_seconds", "segmentation_core_seconds")


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
        core-seconds, seconds, memory).

    Raises:
        FileNotFoundError: nothing is stored there.
    """
    folders = result_folders(Path(results_dir))
    if not folders:
        raise FileNotFoundError(f"no results in {results_dir}: run `python -m scripts.study run` first.")
    scores, records = [], []
    for folder in folders:
        record = read_record(folder)
        key = {name: record[name] for name in ("regime", "labelled", "arm", "seed")}
        scores.append(read_scores(folder / "scores.csv").assign(**key))
        records.append({**_plain(record), **core_seconds_by_stage(record)})
    return _in_every_regime(pd.concat(scores, ignore_index=True)), _in_every_regime(pd.DataFrame(records))


def core_seconds_by_stage(record: dict[str, Any]) -> dict[str, float]:
    """Core-seconds of the coarse networks together, of the contrastive and of the segmentation stage."""
    seconds = dict.fromkeys(STAGES, 0.0)
    for name, stage in record["stages"].items():
        seconds[f"{name.partition('_')[0]}_core_seconds"] += float(stage["core_seconds"])
    return seconds


def _plain(record: dict[str, Any]) -> dict[str, str | int | float]:
    return {name: value for name, value in record.items() if isinstance(value, str | int | float)}


def _in_every_regime(frame: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows without a regime in every regime that there is."""
    free = frame["regime"] == NO_REGIME
    regimes = sorted(frame.loc[~free, "regime"].unique())
    if not regimes:
        return frame
    repeated = [frame[~free], *(frame[free].assign(regime=regime) for regime in regimes)]
    return pd.concat(repeated, ignore_index=True)
