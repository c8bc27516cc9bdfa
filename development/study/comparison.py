"""Paired comparisons over patients, seeds averaged first: did a change help?

Print what one evaluation run or several differ by from the first, each a `scores.csv`:

    python -m development.study.comparison before/scores.csv after/scores.csv --by_organ

The unit is the patient: a patient's score of an arm is the mean over the seeds that both arms have, so that seeds do
not pass for patients. Differences are taken patient by patient and organ by organ.
"""

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


def organs_of(scores: pd.DataFrame) -> list[str]:
    """Names of the scored organs in the order of their class indices."""
    return list(scores.sort_values("class_index")["organ"].unique())


def patient_scores(scores: pd.DataFrame, metric: str, seeds: Sequence[int] | None = None) -> pd.DataFrame:
    """Scores of one arm in one group as a table of patients by organs, each the mean over these seeds (None: all).

    The organs stand in the order of the class indices; NaN where an organ has no score in any seed.
    """
    chosen = scores if seeds is None else scores[scores["seed"].isin(list(seeds))]
    table = chosen.groupby(["case", "organ"])[metric].mean().unstack("organ")
    return table.reindex(columns=organs_of(chosen))


def paired_differences(scores: pd.DataFrame, arm: str, reference: str, metric: str) -> tuple[pd.DataFrame, list[int]]:
    """Score of an arm less that of a reference in one group: patients by organs, and the seeds that were averaged."""
    one, other = scores[scores["arm"] == arm], scores[scores["arm"] == reference]
    seeds = sorted(set(one["seed"]) & set(other["seed"]))
    difference = patient_scores(one, metric, seeds) - patient_scores(other, metric, seeds)
    order = [organ for organ in organs_of(one) if organ in difference.columns]
    return difference.reindex(columns=order), seeds


def signed_rank(differences: NDArray[np.float64]) -> float:
    """P value of Wilcoxon's signed-rank test, two-sided; 1 if nothing differs, NaN without a difference to test."""
    known = differences[~np.isnan(differences)]
    if known.size == 0:
        return math.nan
    return float(stats.wilcoxon(known).pvalue) if np.any(known) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number after Holm (1979): the k-th smallest of m times m - k + 1, never falling.

    NaN stays NaN and does not count. Example: .01, .04, .03 and .005 become .03, .06, .06 and .02.
    """
    known = pd.Series(p_values, dtype=float).dropna().sort_values()
    corrected = (known * np.arange(len(known), 0, -1)).clip(upper=1.0).cummax()
    return corrected.reindex(range(len(p_values))).tolist()


def compare(
    scores: pd.DataFrame, arms: Sequence[str], reference: str, metric: str, by_organ: bool = False
) -> pd.DataFrame:
    """Differences of arms from a reference in one group: one table, over which the p values are corrected.

    The reference itself, and arms that share no seed with it, are left out. `by_organ` gives a row for every organ, in
    place of one of the macro mean.

    Returns:
        Columns arm, reference, metric, organ, seeds, patients, difference, low, high (95 % bootstrap interval over
        patients), p (Wilcoxon; of the macro mean on the patients' means over organs) and p_holm.
    """
    rows = []
    for arm in arms:
        differences, seeds = paired_differences(scores, arm, reference, metric)
        if arm == reference or not seeds:
            continue
        parts = {organ: differences[[organ]] for organ in differences} if by_organ else {MACRO_ROW: differences}
        for organ, part in parts.items():
            values, of_patients = part.to_numpy(dtype=float), part.mean(axis=1)
            low, high = macro_interval(values)
            difference, p = float(macro_mean(values)), signed_rank(of_patients.to_numpy(dtype=float))
            patients = int(of_patients.notna().sum())
            rows.append((arm, reference, metric, organ, len(seeds), patients, difference, low, high, p))
    columns = ["arm", "reference", "metric", "organ", "seeds", "patients", "difference", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p"].tolist()))


def comparison_markdown(table: pd.DataFrame, titles: Mapping[str, str], heading: str) -> str:
    """Rows of :func:`compare` as a Markdown table; Dice and surface Dice in points, HD95 in mm.

    The comparisons are of one metric; the column `seeds` is optional. The heading is that of the first column, which
    has the titles of the arms.
    """
    optional = [column for column in ("organ", "seeds") if column in table and set(table[column]) != {MACRO_ROW}]
    header = [heading, *optional, "patients", "difference", "95 %", "p", "p, Holm"]
    body = []
    for _, row in table.iterrows():
        factor = 1.0 if row["metric"] == "hd95_mm" else 100.0
        difference, low, high = (f"{factor * row[name]:+.1f}" for name in ("difference", "low", "high"))
        cells = [titles[str(row["arm"])], *(str(row[column]).replace("_", " ") for column in optional)]
        cells += [f"{row['patients']:.0f}", difference, f"{low} to {high}", p_value(row["p"]), p_value(row["p_holm"])]
        body.append(cells)
    return markdown_table(header, body)


def p_value(value: float) -> str:
    """A p value as the tables show it."""
    if math.isnan(value):
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the differences of the runs named on the command line from the first of them."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study.comparison",
        description="Print what evaluation runs differ by from the first one, patient by patient: the mean difference "
        f"(Dice and surface Dice in points, HD95 in mm), its {CONFIDENCE:.0%} bootstrap interval over patients, and p "
        "of Wilcoxon's signed-rank test, also corrected after Holm for the rows of the table.",
        epilog="Example: %(prog)s before/scores.csv after/scores.csv --names before after",
    )
    parser.add_argument("scores", nargs="+", help="scores.csv of evaluation runs, or FILE::RUN, the reference first")
    parser.add_argument("--names", nargs="+", help="one per file, the same for folds of a run (default: its folder)")
    parser.add_argument("--metric", choices=METRICS, default="dice", help="what is compared (default: %(default)s)")
    parser.add_argument("--by_organ", action="store_true", help="a row for every organ, in place of the macro mean")
    options = parser.parse_args(arguments)
    names = options.names or [run_name(path) for path in options.scores]
    if len(names) != len(options.scores) or len(set(names)) < 2:
        parser.error(f"the files need a name each, two different ones or more, got {names}; give them with --names")
    frames = [scores.assign(seed=scores.get("seed", 0)) for scores in map(read_scores, options.scores)]
    if all(frame["seed"].nunique() == 1 for frame in frames):
        frames = [frame.assign(seed=0) for frame in frames]  # one run each, whatever their seeds
    scores = pd.concat([frame.assign(arm=name) for name, frame in zip(names, frames, strict=True)], ignore_index=True)
    if scores.duplicated(["arm", "seed", "case", "organ"]).any():
        parser.error("a patient is in several files of one name: join folds, and no other runs")
    of_arm = {name: scores[scores["arm"] == name] for name in names}
    for name, frame in of_arm.items():
        for unit, key in (("patient", "case"), ("seed", "seed")):
            if not set(frame[key]) & set(of_arm[names[0]][key]):
                parser.error(f"{name} and {names[0]} share no {unit}: give runs that were scored on the same ones")
    table = compare(scores, list(dict.fromkeys(names)), names[0], options.metric, options.by_organ)
    print(comparison_markdown(table, {name: name for name in names}, f"{options.metric} against {names[0]}"))


if __name__ == "__main__":
    install_plain_errors()
    main()
