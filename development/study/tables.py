"""Tables of the report: data frames for CSV, and the same in Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from development.study.results import STAGES
from scripts.evaluation.comparison import compare, comparison_markdown, organ_means, summary_of_arm
from scripts.evaluation.summary import MACRO_ROW, METRICS, markdown_table

METRIC_TITLES = {"dice": "Dice", "hd95_mm": "HD95, mm", "surface_dice": "surface Dice"}


def scores_table(scores: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """One row per arm and metric of one group: macro mean, interval, spreads, then the mean of every organ."""
    rows: list[dict[str, object]] = []
    for arm in arms:
        of_arm = scores[scores["arm"] == arm]
        for metric in METRICS:
            summary = summary_of_arm(of_arm, metric)
            organs = {str(organ): float(mean) for organ, mean in organ_means(of_arm, metric).items()}
            rows.append({"arm": arm, "metric": metric, **summary, **organs})
    return pd.DataFrame(rows)


def differences_table(scores: pd.DataFrame, arms: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Differences from every reference in one group: macro of every metric, and Dice of every organ.

    P values are corrected within a reference and a metric, for the macro means and for the organs apart.
    """
    parts = [
        compare(scores, arms, reference, metric, by_organ)
        for reference in references
        for metric, by_organ in [*((metric, False) for metric in METRICS), ("dice", True)]
    ]
    return pd.concat([part for part in parts if not part.empty] or parts[:1], ignore_index=True)


def costs_table(records: pd.DataFrame, arms: Sequence[str], reference: str) -> pd.DataFrame:
    """Mean core-seconds over the seeds of one group, a row per arm; `ratio` is that of their sum to the reference's."""
    table = records.groupby("arm")[[*STAGES, "training_core_seconds"]].mean().reindex(list(arms))
    sums = table["training_core_seconds"]
    table["ratio"] = sums / float(sums.get(reference, math.nan))
    return table.reset_index()


def scores_markdown(table: pd.DataFrame, titles: dict[str, str]) -> str:
    """Macro means of the three metrics with the interval and both spreads of Dice."""
    header = ["arm", "patients", "seeds", "Dice", "95 %", "SD of seeds", "SD of patients", "HD95, mm", "surface Dice"]
    body = []
    for arm, rows in table.groupby("arm", sort=False):
        of = {str(row["metric"]): row for _, row in rows.iterrows()}
        dice = of["dice"]
        body.append(
            [
                titles[str(arm)],
                f"{dice['patients']:.0f}",
                f"{dice['seeds']:.0f}",
                number(dice["mean"]),
                f"{number(dice['low'])}-{number(dice['high'])}",
                number(dice["seed_sd"], 4),
                number(dice["patient_sd"]),
                number(of["hd95_mm"]["mean"], 1),
                number(of["surface_dice"]["mean"]),
            ]
        )
    return markdown_table(header, body)


def organs_markdown(table: pd.DataFrame, titles: dict[str, str], metric: str) -> str:
    """Means of every organ in one metric."""
    known = {"arm", "metric", "patients", "seeds", "mean", "low", "high", "seed_sd", "patient_sd"}
    organs = [str(name) for name in table.columns if name not in known]
    digits = 1 if metric == "hd95_mm" else 3
    rows = table[table["metric"] == metric]
    header = [f"arm ({METRIC_TITLES[metric]})", *(organ.replace("_", " ") for organ in organs), MACRO_ROW]
    body = [
        [titles[str(row["arm"])], *(number(row[organ], digits) for organ in organs), number(row["mean"], digits)]
        for _, row in rows.iterrows()
    ]
    return markdown_table(header, body)


def differences_markdown(table: pd.DataFrame, titles: dict[str, str], reference: str, metric: str) -> str:
    """Macro differences of one metric from one reference; Dice in points."""
    rows = table[(table["reference"] == reference) & (table["metric"] == metric) & (table["organ"] == MACRO_ROW)]
    return comparison_markdown(rows, titles, f"arm ({METRIC_TITLES[metric]})")


def costs_markdown(table: pd.DataFrame, titles: dict[str, str]) -> str:
    """Core-seconds of every stage, and the ratio of their sum to the slice baseline's."""
    header = ["arm", "coarse", "contrastive", "segmentation", "all stages", "ratio"]
    body = []
    for _, row in table.iterrows():
        seconds = [number(row[name], 0) for name in (*STAGES, "training_core_seconds")]
        body.append([titles[str(row["arm"])], *seconds, number(row["ratio"], 2)])
    return markdown_table(header, body)


def number(value: float, digits: int = 3) -> str:
    """A number as the tables show it: no leading zero, a dash for none."""
    text = f"{value:.{digits}f}"
    return "-" if math.isnan(value) else text.removeprefix("0") if digits else text
