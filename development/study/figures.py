"""Figures of the report: forest plots of paired differences, Dice of every organ, and what the arms cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from development.study.results import STAGES
from scripts.evaluation.comparison import p_value, patient_scores
from scripts.evaluation.figures import BOX_COLOUR, MACRO_COLOUR
from scripts.evaluation.summary import MACRO_ROW
from scripts.files.atomic_write import replacing

STAGE_COLOURS = ("#4477aa", "#ee6677", "#ccbb44")


def save_forest(table: pd.DataFrame, references: Sequence[str], titles: dict[str, str], path: Path, title: str) -> None:
    """Macro Dice differences in points with 95 % intervals, one panel for each reference.

    Args:
        table: `differences_table` of one group.
        references: arms that the others are compared with.
        titles: of arms.
        path: the PNG to write.
        title: heading.
    """
    macro = table[(table["metric"] == "dice") & (table["organ"] == MACRO_ROW)]
    panels = [(one, macro[macro["reference"] == one]) for one in references if one in set(macro["reference"])]
    height = 1.6 + 0.42 * max((len(rows) for _, rows in panels), default=1)
    figure = _figure(6.4 * max(1, len(panels)), height)
    for number, (reference, rows) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        _forest(axes, rows, titles)
        axes.set_xlabel(f"Dice points against {titles[reference]}")
    figure.suptitle(title)
    _save(figure, path)


def _forest(axes: Axes, rows: pd.DataFrame, titles: dict[str, str]) -> None:
    places = np.arange(len(rows))
    centre, low, high = (100 * rows[name].to_numpy(dtype=float) for name in ("difference", "low", "high"))
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.errorbar(
        centre, places, xerr=[centre - low, high - centre], fmt="s", color=BOX_COLOUR, capsize=3, markersize=5
    )
    for place, (_, row), end in zip(places, rows.iterrows(), high, strict=True):
        text = f"  {100 * row['difference']:+.1f}, p = {p_value(row['p_holm'])}".replace("= <", "< ")
        axes.annotate(text, (end if not math.isnan(end) else 0.0, place), va="center", fontsize=8)
    axes.set_yticks(places, [titles[str(arm)] for arm in rows["arm"]])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.35)
    axes.grid(axis="x", alpha=0.3)


def save_organs(scores: pd.DataFrame, arms: Sequence[str], titles: dict[str, str], path: Path, title: str) -> None:
    """Dice of every organ: a marker for the mean of every arm, a line from its worst to its best seed.

    Args:
        scores: rows of one group.
        arms: in the order of the legend.
        titles: of arms.
        path: the PNG to write.
        title: heading.
    """
    organs = patient_scores(scores[scores["arm"] == arms[0]], "dice").columns.tolist()
    figure = _figure(8.5, 1.6 + 0.75 * len(organs))
    axes = figure.add_subplot()
    colours = colormaps["tab20"](np.arange(len(arms)) % 20)
    for number, (arm, colour) in enumerate(zip(arms, colours, strict=True)):
        of_arm = scores[scores["arm"] == arm]
        seeds = [patient_scores(of_arm, "dice", [seed]).mean() for seed in of_arm["seed"].unique()]
        means = pd.concat(seeds, axis=1).reindex(organs)
        places = np.arange(len(organs)) + (number - (len(arms) - 1) / 2) * 0.8 / len(arms)
        axes.hlines(places, means.min(axis=1), means.max(axis=1), color=colour, linewidth=2)
        centre = patient_scores(of_arm, "dice").mean().reindex(organs)
        axes.scatter(centre, places, color=colour, s=22, label=titles[arm], zorder=3)
    axes.set_yticks(np.arange(len(organs)), [organ.replace("_", " ") for organ in organs])
    axes.set_ylim(len(organs) - 0.5, -0.5)
    axes.set_xlabel("Dice, mean over patients (line: from the worst to the best seed)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    _save(figure, path)


def save_costs(table: pd.DataFrame, titles: dict[str, str], path: Path, title: str) -> None:
    """Core-seconds of training of every arm, stage by stage.

    Args:
        table: `costs_table` of one group.
        titles: of arms.
        path: the PNG to write.
        title: heading.
    """
    figure = _figure(8.0, 1.6 + 0.36 * len(table))
    axes = figure.add_subplot()
    places, left = np.arange(len(table)), np.zeros(len(table))
    for name, colour in zip(STAGES, STAGE_COLOURS, strict=True):
        width = table[name].to_numpy(dtype=float)
        axes.barh(places, width, left=left, color=colour, label=name.removesuffix("_core_seconds"))
        left += np.nan_to_num(width)
    reference = table.loc[table["ratio"] == 1.0, "training_core_seconds"]
    if not reference.empty:
        axes.axvline(float(reference.iloc[0]), color=MACRO_COLOUR, linestyle="--", linewidth=1.2)
    axes.set_yticks(places, [titles[str(arm)] for arm in table["arm"]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel("core-seconds of training (dashed: the slice baseline's)")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
