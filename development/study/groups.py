r"""Scores by what is known of the patients: pixel size, slice distance, completeness and plausibility of the contours.

    python -m development.study.groups runs/mine/evaluation/scores.csv --dataset_dir DATASET
    python -m development.study.groups FILE::without_{0,1} --reference FILE::with_{0,1} --dataset_dir DATASET

Groups are made from the scans and the references alone; no score decides who belongs to which. Of several runs, such as
seeds, each contour has its mean score. With a reference each group has the difference from it, patient by patient.

The runs with_0 to without_2 of docs/results/doubts are evaluations of

    python -m monai.bundle run training --config_file configs/train.yaml --dataset_dir OPENKBP --seed 0 \
      --output_dir runs/without_0 --exclude docs/results/doubts/list.csv --spacing "[4.5,4.5,4]" \
      --coarse_spacing "[6,6,5]" --coarse::stage::patch_size "[32,32,32]" --coarse::stage::epochs 8 \
      --coarse::stage::fold_epochs 4 --encoder::name resnet18 --contrastive::epochs 1 --train::epochs 6
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from development.study.comparison import organs_of
from scripts.dataset.datalist_file import datalist_path, read_datalist
from scripts.dataset.datalists import case_names, load_cases
from scripts.dataset.exclusions import read_exclusions
from scripts.dataset_report.measure import CaseMeasure, measure_cases
from scripts.dataset_report.outliers import MAX_Z, MIN_CASES, robust_z
from scripts.evaluation.intervals import macro_interval, macro_mean
from scripts.evaluation.score_tables import markdown_table
from scripts.evaluation.summary import read_scores
from scripts.runtime.plain_errors import install_plain_errors


def macro_dice(scores: pd.DataFrame) -> dict[str, float]:
    """Patients, macro mean Dice and its 95 % bootstrap interval over patients, and the median Dice of all organs."""
    dice = scores.pivot(index="case", columns="organ", values="dice").to_numpy(dtype=float)
    low, high = macro_interval(dice)
    mean = float(macro_mean(dice))
    return {
        "patients": int((~np.isnan(dice)).any(axis=1).sum()),
        "contours": int((~np.isnan(dice)).sum()),
        "dice": mean,
        "low": low,
        "high": high,
        "median": float(np.nanmedian(dice)) if dice.size else float("nan"),
    }


def implausible(scores: pd.DataFrame) -> pd.Series:
    """Which references have a volume far from the others' of their organ, by the data report's bounds: [score] bool.

    Of an organ with fewer than six volumes, nothing is said. Volumes of 10, 11, 12, 13, 14, 15 and 480 ml: the last.
    """
    found = pd.Series(False, index=scores.index)
    for _, of_organ in scores[scores["reference_ml"] > 0].groupby("organ"):
        if len(of_organ) >= MIN_CASES:
            distances = robust_z(np.log(of_organ["reference_ml"]).tolist())
            found.loc[of_organ.index] = np.abs(distances) > MAX_Z
    return found


def groups_of(
    scores: pd.DataFrame, measures: Sequence[CaseMeasure], doubted: Collection[tuple[str, str]] | None = None
) -> dict[str, pd.DataFrame]:
    """Part of the scores (a row per case and organ) in each group, the groups in the order in which they are printed.

    Doubted contours are pairs of case and organ; None: nobody looked for any.

    Raises:
        ValueError: a scored case is not among the measured ones.
    """
    known = {measure.case: measure for measure in measures if not measure.failure}
    missing = sorted(set(scores["case"]) - set(known))
    if missing:
        raise ValueError(f"no scan is known for the scored cases {missing[:3]}; give the data set that was scored.")
    contoured = scores["case"].map({case: len(measure.organs) for case, measure in known.items()})
    complete, odd = contoured.max(), implausible(scores)
    groups = {"all": scores}
    if doubted is not None:
        marked = pd.Series(list(zip(scores["case"], scores["organ"], strict=True)), scores.index).isin(doubted)
        groups |= {"contours that are not doubted": scores[~marked], "doubted contours": scores[marked]}
    for axis, name in ((0, "pixels"), (2, "slices")):
        spacing = scores["case"].map({case: measure.spacing[axis] for case, measure in known.items()})
        middle = float(np.median([known[case].spacing[axis] for case in scores["case"].unique()]))
        groups[f"{name} up to {middle:.3g} mm"] = scores[spacing <= middle]
        groups[f"{name} above {middle:.3g} mm"] = scores[spacing > middle]
    groups |= {
        f"{complete} organs contoured": scores[contoured == complete],
        f"fewer than {complete} organs contoured": scores[contoured < complete],
        "contours of plausible volume": scores[~odd],
        "contours of implausible volume": scores[odd],
    }
    return {name: part for name, part in groups.items() if len(part)}


def read_mean_scores(paths: Sequence[str]) -> pd.DataFrame:
    """Scores of the first run, with the mean Dice of all runs; those have to score the same contours."""
    runs = [read_scores(path) for path in paths]
    dice = [run.set_index(["case", "organ"])["dice"] for run in runs]
    for path, one in zip(paths, dice, strict=True):
        if set(one.index) != set(dice[0].index):
            raise ValueError(f"{path} and {paths[0]} score other contours: give runs that were scored alike.")
    table = pd.concat([one.loc[dice[0].index] for one in dice], axis=1)
    return runs[0].assign(dice=table.mean(axis=1, skipna=False).to_numpy())


def difference_from(reference: pd.DataFrame, part: pd.DataFrame) -> str:
    """Macro mean of the differences in Dice from a reference in points, with its bootstrap interval over patients."""
    both = part.merge(reference[["case", "organ", "dice"]], on=["case", "organ"], suffixes=("", "_before"))
    both["difference"] = 100 * (both["dice"] - both["dice_before"])
    table = both.pivot(index="case", columns="organ", values="difference").to_numpy(dtype=float)
    low, high = macro_interval(table)
    return f"{float(macro_mean(table)):+.1f} ({low:+.1f} to {high:+.1f})"


def format_groups(groups: Mapping[str, pd.DataFrame], reference: pd.DataFrame | None = None) -> str:
    """A Markdown table, one row for each group."""
    head, body = ["group", "patients", "contours", "macro Dice", "95%", "median"], []
    for name, part in groups.items():
        row = macro_dice(part)
        interval = "-" if np.isnan(row["low"]) else f"{row['low']:.3f}-{row['high']:.3f}"
        counts = [str(row["patients"]), str(row["contours"])]
        body.append([name, *counts, f"{row['dice']:.3f}", interval, f"{row['median']:.3f}"])
        if reference is not None:
            body[-1].append(difference_from(reference, part))
    return markdown_table([*head, "difference, points"] if reference is not None else head, body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and the references whose volume is implausible."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study.groups",
        description="Print macro Dice by pixel size, slice distance, completeness and plausibility of the contours.",
    )
    parser.add_argument("scores", nargs="+", help="scores.csv of an evaluation run, or FILE::RUN; several: their mean")
    parser.add_argument("--reference", nargs="+", help="runs that these are compared with, contour by contour")
    parser.add_argument("--dataset_dir", required=True, help="folder with the dataset.json that was scored")
    parser.add_argument("--doubts", help="CSV whose marked contours are doubted, see scripts.dataset.exclusions")
    parser.add_argument("--split", default="validation", help="split that was scored (default: %(default)s)")
    options = parser.parse_args(arguments)
    scores = read_mean_scores(options.scores)
    reference = read_mean_scores(options.reference) if options.reference else None
    organs = organs_of(scores)
    cases = load_cases(options.dataset_dir, options.split, organs)
    doubted = (
        read_exclusions(options.doubts, case_names(read_datalist(datalist_path(options.dataset_dir))), organs)
        if options.doubts
        else None
    )
    print(format_groups(groups_of(scores, measure_cases({options.split: cases}, organs), doubted), reference))
    odd = scores[implausible(scores)]
    for _, row in odd.iterrows():
        print(f"{row['case']}: {row['organ']} of {row['reference_ml']:.3g} ml in the reference, Dice {row['dice']:.3f}")


if __name__ == "__main__":
    install_plain_errors()
    main()
