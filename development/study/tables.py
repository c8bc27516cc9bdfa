"""Tables of the report in Markdown, each of one group of runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from development.study.comparison import compare, comparison_markdown, organs_of, patient_scores
from development.study.results import STAGES
from scripts.evaluation.intervals import macro_interval, macro_mean
from scripts.evaluation.score_tables import markdown_table
from scripts.evaluation.summary import MACRO_ROW, METRICS

METRIC_TITLES = {"dice": "Dice", "hd95_mm": "HD95, mm", "surface_dice": "surface Dice"}


def group_tables(
    scores: pd.DataFrame, records: pd.DataFrame, titles: Mapping[str, str], references: Sequence[str]
) -> Iterator[str]:
    """The tables of a group: overview, differences from every reference, organs, core-seconds.

    The records are the runs of the group with their core-seconds, the titles those of its arms in their order. Costs
    are compared with those of the first reference.
    """
    costs = records.groupby("arm")[[*STAGES, "all_stages"]].mean().reindex(list(titles))
    differences = {
        (name, metric): compare(scores, list(titles), name, metric)
        for name in references
        for metric in METRICS
        if name in titles and len(titles) > 1
    }
    yield _overview(scores, costs["all_stages"], titles, differences)
    for (name, metric), table in differences.items():
        heading = f"Against **{titles[name]}**:\n\n" if metric == METRICS[0] else ""
        yield heading + comparison_markdown(table, titles, f"arm ({METRIC_TITLES[metric]})")
    for metric in METRICS:
        means = pd.DataFrame({arm: organ_means(scores[scores["arm"] == arm], metric) for arm in titles})
        means = means.reindex(organs_of(scores))
        means.loc[MACRO_ROW] = means.mean()
        yield _frame(means.T, titles, METRIC_TITLES[metric], [1 if metric == "hd95_mm" else 3] * len(means))
    costs["ratio"] = costs["all_stages"] / costs["all_stages"].get(references[0], math.nan)
    yield _frame(costs, titles, "core-seconds", [0, 0, 0, 0, 2])


def _overview(
    scores: pd.DataFrame,
    seconds: pd.Series[float],
    titles: Mapping[str, str],
    differences: Mapping[tuple[str, str], pd.DataFrame],
) -> str:
    """Macro means, Dice differences in points from every reference, and core-seconds."""
    against = {name: table.set_index("arm") for (name, metric), table in differences.items() if metric == "dice"}
    body = []
    for arm, title in titles.items():
        dice, hd95, surface = (summary_of_arm(scores[scores["arm"] == arm], metric) for metric in METRICS)
        interval = f"{number(dice['low'])}-{number(dice['high'])}"
        cells = [f"{dice['seeds']:.0f}", number(dice["mean"]), interval, number(dice["seed_sd"])]
        for table in against.values():
            low, middle, high = (100 * table[end].get(arm, math.nan) for end in ("low", "difference", "high"))
            cells.append("" if math.isnan(middle) else f"{middle:+.1f} ({low:+.1f} to {high:+.1f})")
        body.append([title, *cells, number(hd95["mean"], 0), number(surface["mean"]), number(float(seconds[arm]), 0)])
    header = ["arm", "seeds", "macro Dice", "95 %", "SD of seeds", *(f"against {titles[name]}" for name in against)]
    return markdown_table([*header, "HD95, mm", "surface Dice", "core-seconds"], body)


def summary_of_arm(scores: pd.DataFrame, metric: str) -> dict[str, float]:
    """Macro mean of one arm in one group, its interval over patients, and the spread over seeds and over patients.

    `seed_sd` is that of the macro means of the seeds, `patient_sd` that of the patients' means over organs and seeds;
    NaN for a single one.
    """
    table = patient_scores(scores, metric)
    values = table.to_numpy(dtype=float)
    of_seeds = [patient_scores(scores, metric, [seed]).to_numpy(dtype=float) for seed in scores["seed"].unique()]
    low, high = macro_interval(values)
    return {
        "patients": int(table.notna().any(axis=1).sum()),
        "seeds": len(of_seeds),
        "mean": float(macro_mean(values)),
        "low": low,
        "high": high,
        "seed_sd": float(pd.Series([float(macro_mean(one)) for one in of_seeds]).std()),
        "patient_sd": float(table.mean(axis=1).std()),
    }


def organ_means(scores: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Mean over seeds and patients of every organ."""
    return patient_scores(scores, metric).mean(axis=0)


def _frame(frame: pd.DataFrame, titles: Mapping[str, str], heading: str, digits: Sequence[int]) -> str:
    """A data frame as Markdown, a row per arm."""
    body = [[titles[arm], *map(number, row, digits)] for arm, row in zip(frame.index, frame.to_numpy(), strict=True)]
    return markdown_table([f"arm ({heading})", *(str(name).replace("_", " ") for name in frame)], body)


def number(value: float, digits: int = 3) -> str:
    """A number as the tables show it: no leading zero, a dash for none."""
    text = f"{value:.{digits}f}"
    return "-" if math.isnan(value) else text.removeprefix("0") if digits else text
