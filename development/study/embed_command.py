r"""The command `python -m development.study embed`: a t-SNE map of held-out queries, one panel for each run.

    python -m development.study embed --dataset_dir OPENKBP --model_path runs/study/same/168/supcon/seed0 \
      runs/study/same/168/contrast_without_attention/seed0

Each point is a query of a validation patient, in the embedding that the contrastive stage was trained in.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from development.study.composition import ROOT
from development.study.embedding import Embedded, embed_run, phase_silhouette, silhouette
from development.study.plan import read_plan
from scripts.files.atomic_write import replacing

SEED = 0
PERPLEXITY = 30.0


def main(arguments: Sequence[str]) -> int:
    """Embed the queries of all runs and draw them."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m development.study embed", None, __doc__, formatter_class=form)
    parser.add_argument("--model_path", nargs="+", required=True, help="folders of runs with a contrastive stage")
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--cache_dir", default="runs/study/cache", help="slice cache (default: %(default)s)")
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=600, help="number for each run (default: %(default)s)")
    parser.add_argument("--output", default="docs/images/embedding.png", help="PNG to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    plan, where = read_plan(ROOT / options.plan), (options.dataset_dir, options.cache_dir, options.queries)
    runs = [embed_run(plan, Path(folder), *where) for folder in options.model_path]
    for run in runs:
        print(f"{run.title}: {', '.join(summary(run))}, over {len(run.points)} queries")
    save_map(runs, Path(options.output))
    print(f"written: {options.output}")
    return 0


def summary(run: Embedded) -> list[str]:
    """The silhouettes in words."""
    found = [f"silhouette of the organs {silhouette(run.points, run.organs):.3f}"]
    if has_phases(run):
        found.append(f"of the phases within an organ {phase_silhouette(run):.3f}")
    return found


def has_phases(run: Embedded) -> bool:
    """Whether the queries come from several contrast phases."""
    return len(set(run.phases.tolist())) > 1


def save_map(runs: Sequence[Embedded], path: Path) -> None:
    """Draw the maps side by side, coloured by organ, and where there are several contrast phases also by those."""
    rows = 1 + any(map(has_phases, runs))
    figure = Figure(figsize=(5.2 * len(runs) + 1.6, 5.2 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, len(runs), squeeze=False)
    for column, run in enumerate(runs):
        perplexity = min(PERPLEXITY, (len(run.points) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(run.points)
        _draw(panels[0, column], places, run.organs - 1, run.names, "tab20")
        panels[0, column].set_title("\n".join([run.title, *summary(run)]), fontsize=9)
        if rows > 1:
            _draw(panels[1, column], places, run.phases, run.phase_names, "Dark2")
    for row in panels:
        row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(
    axes: Axes, places: NDArray[np.float32], classes: NDArray[np.int64], names: Sequence[str], palette: str
) -> None:
    """One map [query, 2] in the colours of its classes."""
    colours = colormaps[palette]
    for index, name in enumerate(names):
        chosen = classes == index
        colour = [colours(index % colours.N)]
        axes.scatter(places[chosen, 0], places[chosen, 1], s=9, color=colour, label=name.replace("_", " "))
    axes.set_xticks([])
    axes.set_yticks([])
