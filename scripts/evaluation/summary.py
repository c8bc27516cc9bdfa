"""Averages over patients with their uncertainty, the report of one run, and the table of several runs.

Print the mean Dice of two runs, each a `scores.csv` that `write_report` left behind, side by side for every organ, with
the number of patients and the bootstrap interval of the mean over them:

    python -m scripts.evaluation.summary coarse/scores.csv final/scores.csv --names coarse final

Print one run out of the folds of a cross-validation, which scored every patient once:

    python -m scripts.evaluation.summary fold0/scores.csv fold1/scores.csv --pool

A file may hold several runs, named in a column `run`; FILE::RUN is one of them.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scripts.drawing.display import plain_text
from scripts.drawing.overlay import save_figure
from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.intervals import CONFIDENCE, RESAMPLES, SEED, macro_interval, macro_mean
from scripts.evaluation.score_tables import markdown_table, read_runs, run_name
from scripts.files.atomic_write import write_text
from scripts.runtime.plain_errors import command_parser

METRICS = ("dice", "hd95_mm", "surface_dice")
COLUMNS = tuple(field.name for field in fields(CaseScore))
TEXT_COLUMNS = ("case", "organ", "status")
COUNTS = ("patients", "missed", "spurious", "absent")
STATISTICS = ("mean", "median", "std", "low", "high")
MACRO_ROW = "macro mean"
BOX_COLOUR, MACRO_COLOUR = "#4477aa", "#cc3311"
JITTER_SEED = 0


def scores_frame(scores: Sequence[CaseScore]) -> pd.DataFrame:
    """The scores as a table, one row per case and organ, with the fields of `CaseScore` as columns."""
    return pd.DataFrame([asdict(score) for score in scores], columns=list(COLUMNS))


def read_scores(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a `scores.csv` or FILE::RUN (`read_runs`) back; it must have the columns of `CaseScore`.

    Cases named "007" or "NA" stay the text that they are, and metrics the float32 that they were.
    """
    types = dict.fromkeys(TEXT_COLUMNS, "str") | dict.fromkeys(METRICS, "float32")
    empty = {metric: [""] for metric in METRICS}
    frame = read_runs(path, COLUMNS, dtype=types, keep_default_na=False, na_values=empty)
    return frame.astype(dict.fromkeys(METRICS, "float64"))


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the scores over patients, organ by organ, and over organs; the scores have a row per case and organ.

    Returns one row per organ in the order of the class indices, then "macro mean": the mean over organs of the organ
    means. Columns: `patients` (with a Dice score), `missed`, `spurious`, `absent` (see `CaseScore`) and, for each of
    dice, hd95_mm and surface_dice, `_mean`, `_median`, `_std` (n - 1), `_low` and `_high`: the 95% bootstrap interval
    of the mean over patients. The macro row has no median and no deviation. `hd95_mm` knows nothing of missed organs:
    read it beside their number. ValueError for no score, or more than one for the same case and organ.
    """
    if scores.empty:
        raise ValueError("There are no scores to summarise: no evaluated case had a contoured organ.")
    twice = scores.loc[scores.duplicated(["case", "organ"]), ["case", "organ"]]
    if not twice.empty:
        raise ValueError(f"More than one score for {twice.iloc[0].tolist()}; keep one run per file, one row per organ.")
    of_organs = scores.sort_values("class_index", kind="stable").groupby("organ", sort=False)
    rows = {str(organ): _statistics(of_organ) for organ, of_organ in of_organs} | {MACRO_ROW: _statistics(scores)}
    for metric in METRICS:
        rows[MACRO_ROW] |= {f"{metric}_median": math.nan, f"{metric}_std": math.nan}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("organ").astype(dict.fromkeys(COUNTS, "int64"))


def _statistics(scores: pd.DataFrame) -> dict[str, float]:
    row: dict[str, float] = {"patients": scores.loc[scores["dice"].notna(), "case"].nunique()}
    row |= {status: int((scores["status"] == status).sum()) for status in COUNTS[1:]}
    for metric in METRICS:
        by_patient = scores.pivot(index="case", columns="organ", values=metric).to_numpy(dtype=float)
        median, deviation = float(scores[metric].median()), float(scores[metric].std())
        values = (float(macro_mean(by_patient)), median, deviation, *macro_interval(by_patient))
        row |= {f"{metric}_{name}": value for name, value in zip(STATISTICS, values, strict=True)}
    return row


def patients_to_look_at(scores: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """The patients of best, median and worst mean Dice over their contoured organs: "best" -> (case, mean Dice).

    Of an even number the better one in the middle. Patients without a contoured organ do not count; without others: {}.
    """
    means = scores.groupby("case")["dice"].mean().dropna().sort_values(ascending=False, kind="stable")
    places = {"best": 0, "median": (len(means) - 1) // 2, "worst": len(means) - 1}
    return {word: (str(means.index[n]), float(means.iloc[n])) for word, n in places.items() if len(means)}


def write_report(scores: Sequence[CaseScore], output_dir: str | os.PathLike[str], title: str) -> pd.DataFrame:
    """Write `scores.csv`, `summary.csv`, `summary.json` and `dice.png`, each whole or not at all.

    Whoever calls has made sure that a report in the folder may be written over. Returns the summary (`summarise`).
    """
    frame, output = scores_frame(scores), Path(output_dir)
    summary = summarise(frame)
    values = summary.astype(object).where(summary.notna(), None).to_dict(orient="index")
    interval = {"method": "percentile bootstrap", "confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED}
    content = {"title": title, "interval": interval, "macro_mean": values.pop(MACRO_ROW), "organs": values}
    table = frame.to_csv(index=False, lineterminator="\n")
    write_text(output / "scores.csv", table, errors="surrogateescape")  # names that are not UTF-8
    write_text(output / "summary.csv", summary.to_csv(lineterminator="\n"))
    write_text(output / "summary.json", json.dumps(content, indent=2) + "\n")
    save_dice_figure(frame, float(summary["dice_mean"][MACRO_ROW]), output / "dice.png", title)
    return summary


def save_dice_figure(scores: pd.DataFrame, macro_dice: float, path: str | os.PathLike[str], title: str) -> None:
    """Draw a box (quartiles) and one dot per patient for each organ, and the macro mean as a line.

    The scores have the columns of `CaseScore`, one row per case and organ; a missed organ shows as a dot at 0.
    """
    by_organ = scores.sort_values("class_index", kind="stable").groupby("organ", sort=False)["dice"]
    values = {str(organ): dice.dropna().to_numpy(dtype=float) for organ, dice in by_organ}
    figure = Figure(figsize=(8.0, 1.4 + 0.42 * len(values)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(1, len(values) + 1)
    line = {"color": BOX_COLOUR}
    look: dict[str, Any] = {"medianprops": {**line, "linewidth": 2.0}, "whiskerprops": line, "capprops": line}
    look |= {"patch_artist": True, "boxprops": {"facecolor": BOX_COLOUR, "alpha": 0.25, "edgecolor": BOX_COLOUR}}
    axes.boxplot(list(values.values()), positions=rows, orientation="horizontal", widths=0.6, showfliers=False, **look)
    # Dots are spread a little across the row so that equal scores stay apart; the seed keeps the picture the same.
    jitter = np.random.default_rng(JITTER_SEED)
    for row, dice in zip(rows, values.values(), strict=True):
        axes.scatter(dice, row + jitter.uniform(-0.18, 0.18, len(dice)), s=9, color=BOX_COLOUR, alpha=0.7, zorder=3)
    if np.isfinite(macro_dice):
        axes.axvline(macro_dice, color=MACRO_COLOUR, ls="--", lw=1.2, label=f"macro mean {macro_dice:.3f}")
        figure.legend(loc="outside lower right", frameon=False)
    names = [f"{plain_text(organ).replace('_', ' ')} (n = {len(dice)})" for organ, dice in values.items()]
    axes.set(yticks=rows, yticklabels=names, ylim=(len(values) + 0.5, 0.5), xlim=(-0.02, 1.02), xlabel="Dice")
    axes.set_title(plain_text(title))
    axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path)


def format_table(summary_by_name: Mapping[str, pd.DataFrame]) -> str:
    """Put the Dice of several methods side by side, as a Markdown table.

    Example:
        | organ      | patients | coarse | final | coarse 95% | final 95% |
        |:-----------|---------:|-------:|------:|-----------:|----------:|
        | spleen     |       20 |   .871 |  .902 |  .842-.895 | .880-.921 |
        | macro mean |       20 |   .871 |  .902 |  .842-.895 | .880-.921 |

    Summaries (`summarise`) are given by the name of the method. Where methods were scored on different numbers of
    patients, `patients` gives each, as in "20 / 19"; "-" marks what a method has no score for.
    """
    summaries = list(summary_by_name.values())
    organs = list(dict.fromkeys(organ for summary in summaries for organ in summary.index if organ != MACRO_ROW))
    header = ["organ", "patients", *summary_by_name, *(f"{name} {CONFIDENCE:.0%}" for name in summary_by_name)]
    body = []
    for organ in [*organs, MACRO_ROW]:
        counts = [str(summary["patients"].get(organ, "-")) for summary in summaries]
        patients = counts[0] if len(set(counts)) == 1 else " / ".join(counts)
        means, lows, highs = (
            [f"{summary[f'dice_{part}'].get(organ, math.nan):.3f}".removeprefix("0") for summary in summaries]
            for part in ("mean", "low", "high")
        )
        cells = [*means, *(f"{low}-{high}" for low, high in zip(lows, highs, strict=True))]
        body.append([organ.replace("_", " "), patients, *("-" if "nan" in cell else cell for cell in cells)])
    return markdown_table(header, body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of the runs named on the command line."""
    parser = command_parser("scripts.evaluation.summary", __doc__)
    parser.add_argument("scores", nargs="+", help="scores.csv of an evaluation run, one per method, or FILE::RUN")
    parser.add_argument("--pool", action="store_true", help="the files are the folds of one cross-validation")
    parser.add_argument("--names", nargs="+", help="column headings, one per file (default: the name of its folder)")
    options = parser.parse_args(arguments)
    count = len(options.scores)
    names = options.names or ([f"{count} folds"] if options.pool else [run_name(path) for path in options.scores])
    if not options.pool and not len(names) == count == len(set(names)):
        parser.error(f"{count} files need as many different names, got {names}; give them with --names")
    frames = [read_scores(path) for path in options.scores]
    if options.pool:
        frames, names = [pd.concat(frames, ignore_index=True)], names[:1]
    print(format_table({name: summarise(frame) for name, frame in zip(names, frames, strict=True)}))
    if len({frozenset(zip(frame["case"], frame["organ"], strict=True)) for frame in frames}) > 1:
        print("\nNot the same contours were scored: these means do not compare.")


if __name__ == "__main__":
    main()
