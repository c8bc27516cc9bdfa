r"""Table of trials on an abdomen: Dice by groups of organs, from stored results.

    python -m development.study.trials_table docs/results/btcv --reference 'slice baseline' 'attention without contrast'
    python -m development.study.trials_table docs/results/btcv --reference 'slice baseline' \
      --trial 'attention without contrast' --by 'coarse stage'
    python -m development.study.trials_table docs/results/btcv --reference 'slice baseline' --trial 'coarse stage'
    python -m development.study.trials_table docs/results/btcv --reference 'slice baseline' --folds folds.json

The second shows a difference by the Dice of a third trial, the next by fold; the last writes the patients of each fold,
for `scripts.prepare.btcv --split folds.json`. Differences are paired over the cases; the intervals hold no spread of
seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from development.study.results import Results
from scripts.evaluation.intervals import macro_interval, macro_mean
from scripts.evaluation.score_tables import markdown_table
from scripts.runtime.plain_errors import install_plain_errors

GROUPS = {
    "large organs": ["spleen", "right_kidney", "left_kidney", "liver", "stomach"],
    "vessels, esophagus": ["esophagus", "aorta", "inferior_vena_cava", "portal_and_splenic_veins"],
    "pancreas, gallbladder": ["pancreas", "gallbladder"],
    "adrenal glands": ["right_adrenal_gland", "left_adrenal_gland"],
}

BOUNDS = (0.0, 0.3, 0.6, 0.8, 1.0)


def trials_table(rows: pd.DataFrame, references: Sequence[str]) -> str:
    """Markdown: a line for each trial, best first, with its difference to each reference in points and its interval.

    The rows have trial, run, core_seconds, organ, case, dice, hd95_mm (mm) and surface_dice. Folds and seeds of a trial
    are its runs: the Dice of a case is averaged over seeds, and core-seconds over all runs. Trials are compared with a
    reference case by case.
    """
    trials = {str(name): part for name, part in rows.groupby("trial")}
    dice = {name: part.pivot_table("dice", "case", "organ") for name, part in trials.items()}
    if unknown := [name for name in references if name not in dice]:
        raise ValueError(f"there is no trial {unknown[0]}: choose one of {', '.join(dice)} as --reference.")
    body = []
    for name in sorted(dice, key=lambda name: -_macro_of(dice[name])):
        table, part = dice[name], trials[name]
        against = ["" if name == other else _against(table - dice[other]) for other in references]
        groups = [f"{_macro_of(table.reindex(columns=organs)):.2f}" for organs in GROUPS.values()]
        seconds = f"{part.groupby('run')['core_seconds'].first().mean():.0f}"
        hd95, surface = (_macro_of(part.pivot_table(metric, "case", "organ")) for metric in ("hd95_mm", "surface_dice"))
        macro = [f"{_macro_of(table):.3f}", f"{hd95:.0f}", f"{surface:.3f}"]
        body.append([name, seconds, str(len(table)), *macro, *against, *groups])
    columns = [f"against {name}" for name in references]
    header = ["trial", "core-seconds", "patients", "macro Dice", "HD95, mm", "surface Dice", *columns, *GROUPS]
    return markdown_table(header, body)


def _macro_of(table: pd.DataFrame) -> float:
    """Macro mean of a table of cases by organs."""
    return float(macro_mean(table.to_numpy(float)))


def _against(difference: pd.DataFrame) -> str:
    """Mean difference in points with its interval over the cases."""
    low, high = macro_interval(difference.to_numpy(float))
    return f"{100 * _macro_of(difference):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def differences_by(rows: pd.DataFrame, trial: str, reference: str, other: str) -> str:
    """Markdown: the mean difference of two trials in points, for results of similar Dice in a third one."""
    wanted = {"trial": trial, "reference": reference, "other": other}
    dice = rows.pivot_table("dice", ["case", "organ"], "trial").reindex(columns=list(wanted.values())).dropna()
    if dice.empty:
        raise ValueError(f"{', '.join(wanted.values())} have no case in common: give the titles of three trials.")
    points = 100 * (dice[trial] - dice[reference])
    groups = points.groupby(pd.cut(dice[other], BOUNDS, include_lowest=True), observed=True)
    body = [
        [f"{max(group.left, 0):.1f} to {group.right:.1f}", str(len(part)), f"{part.mean():+.1f}"]
        for group, part in groups
    ]
    return markdown_table([f"Dice of {other}", "results", f"{trial} against {reference}"], body)


def differences_by_fold(rows: pd.DataFrame, trial: str, reference: str) -> str:
    """Markdown: macro Dice of two trials in each fold, which the names of their runs end with, and their difference."""
    body = []
    for fold, part in rows.groupby(_fold_of(rows)):
        one, other = (part[part["trial"] == name].pivot_table("dice", "case", "organ") for name in (trial, reference))
        if not one.empty and not other.empty:
            means = [f"{_macro_of(dice):.3f}" for dice in (one, other)]
            body.append([str(fold), str(len(one)), *means, _against(one - other)])
    if not body:
        raise ValueError(f"{trial} and {reference} have no fold in common: give the titles of two trials.")
    return markdown_table(["fold", "patients", trial, reference, "difference"], body)


def folds_of(rows: pd.DataFrame, trial: str) -> list[dict[str, list[str]]]:
    """Split of each fold of a trial: its scored patients validate, those of the other folds train."""
    chosen = rows[rows["trial"] == trial]
    held_out = [set(part["case"]) for _, part in chosen.groupby(_fold_of(chosen))]
    if len(held_out) < 2:
        raise ValueError(f"{trial} has {len(held_out)} folds, expected two or more: choose another trial.")
    patients = set().union(*held_out)
    return [{"training": sorted(patients - fold), "validation": sorted(fold)} for fold in held_out]


def _fold_of(rows: pd.DataFrame) -> pd.Series[str]:
    return rows["run"].str.extract(r"/fold(\d+)", expand=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of stored results."""
    parser = argparse.ArgumentParser(prog="python -m development.study.trials_table", description=main.__doc__)
    parser.add_argument("results_dir", type=Path, help="folder of scores.csv.xz and runs.jsonl")
    parser.add_argument("--reference", required=True, nargs="+", help="trials that the others are compared with")
    parser.add_argument("--trial", help="trial whose difference is shown by fold, or --by the Dice of another one")
    parser.add_argument("--by", help="that other trial")
    parser.add_argument("--folds", type=Path, help="JSON file to write: the patients of the folds of the reference")
    options = parser.parse_args(arguments)
    scores, runs = Results(options.results_dir).tables()
    named = runs.rename(columns={"title": "trial", "all_stages": "core_seconds"})[["run", "trial", "core_seconds"]]
    rows = scores.merge(named, on="run")
    if options.folds:
        options.folds.write_text(json.dumps(folds_of(rows, options.reference[0]), indent=1) + "\n", encoding="utf-8")
    elif options.trial and options.by:
        print(differences_by(rows, options.trial, options.reference[0], options.by))
    elif options.trial:
        print(differences_by_fold(rows, options.trial, options.reference[0]))
    else:
        print(trials_table(rows, options.reference))


if __name__ == "__main__":
    install_plain_errors()
    main()
