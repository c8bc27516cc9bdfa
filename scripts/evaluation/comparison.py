"""Paired comparisons over patients, seeds averaged first: did a change help?

Print what one evaluation run or several differ by from the first, each a `scores.csv`:

    python -m scripts.evaluation.comparison before/scores.csv after/scores.csv --by_organ

The unit is the patient: a patient's score of an arm is the mean over the seeds that both arms have, so that seeds do
not pass for patients. Differences are taken patient by patient and organ by organ.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from scripts.evaluation.intervals import CONFIDENCE, macro_interval, macro_mean
from scripts.evaluation.score_tables import markdown_table, run_name
from scripts.evaluation.summary import MACRO_ROW, METRICS, read_scores
from scripts.runtime.plain_errors import install_plain_errors


def patient_scores(scores: pd.DataFrame, metric: str, seeds: Sequence[int] | None = None) -> pd.DataFrame:
    """Scores of one arm as a table of patients by organs, each the mean over seeds.

    Args:
        scores: rows of one arm in one group.
        metric: "dice", "hd95_mm" or "surface_dice".
        seeds: seeds that count; None for all.

    Returns:
        Rows are cases, columns organs in the order of the class indices; NaN where an organ has no score in any seed.
    """
    chosen = scores if seeds is None else scores[scores["seed"].isin(list(seeds))]
    table = chosen.groupby(["case", "organ"])[metric].mean().unstack("organ")
    order = chosen.sort_values("class_index", kind="stable")["organ"].drop_duplicates()
    return table.reindex(columns=order.tolist())


def paired_differences(scores: pd.DataFrame, arm: str, reference: str, metric: str) -> tuple[pd.DataFrame, list[int]]:
    """Score of an arm less that of a reference: patients by organs, and the seeds that were averaged.

    Args:
        scores: rows of one group, of any arms.
        arm: name of the one.
        reference: name of the other.
        metric: name of the metric that is compared.
    """
    one, other = scores[scores["arm"] == arm], scores[scores["arm"] == reference]
    seeds = sorted(set(one["seed"]) & set(other["seed"]))
    difference = patient_scores(one, metric, seeds) - patient_scores(other, metric, seeds)
    order = [organ for organ in patient_scores(one, metric).columns if organ in difference.columns]
    return difference.reindex(columns=order), seeds


def signed_rank(differences: NDArray[np.float64]) -> float:
    """P value of Wilcoxon's signed-rank test, two-sided; 1 if nothing differs, NaN without a difference to test."""
    known = differences[~np.isnan(differences)]
    if known.size == 0:
        return math.nan
    return float(stats.wilcoxon(known).pvalue) if np.any(known) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number after Holm (1979): the k-th smallest of m times m - k + 1, never falling.

    NaN stays NaN and does not count.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[place] = largest
    return corrected


def compare(
    scores: pd.DataFrame, arms: Sequence[str], reference: str, metric: str, by_organ: bool = False
) -> pd.DataFrame:
    """Differences of arms from a reference in one group: one table, over which the p values are corrected.

    Args:
        scores: rows of one group.
        arms: names; the reference itself, and arms that share no seed with it, are left out.
        reference: name.
        metric: name of the metric that is compared.
        by_organ: a row for every organ, in place of one of the macro mean.

    Returns:
        Columns arm, reference, metric, organ, patients, seeds, difference, low, high (95 % bootstrap interval over
        patients), p (Wilcoxon; of the macro mean on the patients' means over organs) and p_holm.
    """
    rows = []
    for arm in arms:
        differences, seeds = paired_differences(scores, arm, reference, metric)
        if arm == reference or not seeds:
            continue
        parts = {organ: differences[[organ]] for organ in differences} if by_organ else {MACRO_ROW: differences}
        for organ, part in parts.items():
            key = {"arm": arm, "reference": reference, "metric": metric, "organ": organ, "seeds": len(seeds)}
            rows.append(key | _row(part.to_numpy(dtype=float)))
    columns = ["arm", "reference", "metric", "organ", "seeds", "patients", "difference", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p"].tolist()))


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


def comparison_markdown(table: pd.DataFrame, titles: Mapping[str, str], heading: str) -> str:
    """Rows of :func:`compare` as a Markdown table; Dice and surface Dice in points, HD95 in mm.

    Args:
        table: comparisons of one metric; the column `seeds` is optional.
        titles: titles of the arms.
        heading: heading of the first column.
    """
    optional = [column for column in ("organ", "seeds") if column in table and set(table[column]) != {MACRO_ROW}]
    header = [heading, *optional, "patients", "difference", "95 %", "p", "p, Holm"]
    body = []
    for _, row in table.iterrows():
        factor = 1.0 if row["metric"] == "hd95_mm" else 100.0
        low, high = (f"{factor * row[end]:+.1f}" for end in ("low", "high"))
        cells = [titles[str(row["arm"])], *(str(row[column]).replace("_", " ") for column in optional)]
        cells += [f"{row['patients']:.0f}", f"{factor * row['difference']:+.1f}", f"{low} to {high}"]
        body.append([*cells, p_value(row["p"]), p_value(row["p_holm"])])
    return markdown_table(header, body)


def p_value(value: float) -> str:
    """A p value as the tables show it."""
    if math.isnan(value):
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the differences of the runs named on the command line from the first of them."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluation.comparison",
        description="Print what evaluation runs differ by from the first one, patient by patient: the mean difference "
        f"(Dice and surface Dice in points, HD95 in mm), its {CONFIDENCE:.0%} bootstrap interval over patients, and p "
        "of Wilcoxon's signed-rank test, also corrected after Holm for the rows of the table.",
        epilog="Example: %(prog)s before/scores.csv after/scores.csv --names before after",
    )
    parser.add_argument("scores", nargs="+", help="scores.csv of evaluation runs, or FILE::RUN, the reference first")
    parser.add_argument("--names", nargs="+", help="of the runs, one per file (default: the name of its folder)")
    parser.add_argument("--metric", choices=METRICS, default="dice", help="what is compared (default: %(default)s)")
    parser.add_argument("--by_organ", action="store_true", help="a row for every organ, in place of the macro mean")
    options = parser.parse_args(arguments)
    names = options.names or [run_name(path) for path in options.scores]
    if not 2 <= len(names) == len(options.scores) == len(set(names)):
        parser.error(f"two files or more need as many different names, got {names}; give them with --names")
    frames = [_of_arm(read_scores(path), name) for name, path in zip(names, options.scores, strict=True)]
    for name, frame in zip(names, frames, strict=True):
        if not set(frame["case"]) & set(frames[0]["case"]):
            parser.error(f"{name} and {names[0]} share no patient: give runs that were scored on the same ones")
    table = compare(pd.concat(frames, ignore_index=True), names, names[0], options.metric, options.by_organ)
    heading = f"{options.metric} against {names[0]}"
    print(comparison_markdown(table.drop(columns="seeds"), {name: name for name in names}, heading))


def _of_arm(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Scores as those of an arm; a file of one run is of one seed."""
    return scores.assign(arm=name, seed=scores.get("seed", 0))


def _row(patients_by_organs: NDArray[np.float64]) -> dict[str, float]:
    of_patients = pd.DataFrame(patients_by_organs).mean(axis=1).to_numpy(dtype=float)
    low, high = macro_interval(patients_by_organs)
    return {
        "patients": int((~np.isnan(of_patients)).sum()),
        "difference": float(macro_mean(patients_by_organs)),
        "low": low,
        "high": high,
        "p": signed_rank(of_patients),
    }


if __name__ == "__main__":
    install_plain_errors()
    main()
