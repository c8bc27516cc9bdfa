"""The figure of a report: Dice of every patient, organ by organ."""

import os

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.drawing.display import plain_text
from scripts.files.atomic_write import replacing

BOX_COLOUR, MACRO_COLOUR = "#4477aa", "#cc3311"
JITTER_SEED = 0


def save_dice_figure(scores: pd.DataFrame, macro_dice: float, path: str | os.PathLike[str], title: str) -> None:
    """Draw a box (quartiles) and one dot per patient for each organ, and the macro mean as a line.

    The scores have the columns of `CaseScore`, one row per case and organ; a missed organ shows as a dot at 0.
    """
    by_organ = scores.sort_values("class_index", kind="stable").groupby("organ", sort=False)["dice"]
    values = {str(organ): dice.dropna().to_numpy(dtype=float) for organ, dice in by_organ}
    figure = Figure(figsize=(8.0, 1.4 + 0.42 * len(values)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = np.arange(1, len(values) + 1)
    axes.boxplot(
        list(values.values()),
        positions=rows,
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": BOX_COLOUR, "alpha": 0.25, "edgecolor": BOX_COLOUR},
        medianprops={"color": BOX_COLOUR, "linewidth": 2.0},
        whiskerprops={"color": BOX_COLOUR},
        capprops={"color": BOX_COLOUR},
    )
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
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
