r"""The command `python -m scripts.study embed`: a t-SNE map of held-out queries, one panel for each run.

    python -m scripts.study embed --dataset_dir OPENKBP --model_path runs/study/same/168/supcon/seed0 \
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
from sklearn.metrics import silhouette_score

from scripts.atomic_write import replacing
from scripts.study.composition import ROOT
from scripts.study.embedding import Embedded, embed_run
from scripts.study.plan import read_plan

SEED = 0
PERPLEXITY = 30.0
MARKERS = "o^sDv"


def main(arguments: Sequence[str]) -> int:
    """Embed the queries of all runs and draw them."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.study embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_path", nargs="+", required=True, help="folders of runs with a contrastive stage")
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--cache_dir", default="runs/study/cache", help="slice cache (default: %(default)s)")
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=600, help="of each run (default: %(default)s)")
    parser.add_argument("--output", default="docs/study/embedding.png", help="PNG to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    plan = read_plan(ROOT / options.plan)
    runs = [
        embed_run(plan, Path(folder), options.dataset_dir, options.cache_dir, options.queries)
        for folder in options.model_path
    ]
    for run in runs:
        print(f"{run.title}: silhouette of the organs {silhouette(run):.3f} over {len(run.points)} queries")
    save_map(runs, Path(options.output))
    print(f"written: {options.output}")
    return 0


def silhouette(run: Embedded) -> float:
    """How far the organs lie apart in the embedding itself, -1 to 1; NaN for a single organ."""
    if len(set(run.organs.tolist())) < 2:
        return float("nan")
    return float(silhouette_score(run.points, run.organs))


def two_dimensional(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The t-SNE map of embeddings, the same at every call."""
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    places: NDArray[np.float32] = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(points)
    return places


def save_map(runs: Sequence[Embedded], path: Path) -> None:
    """Draw the maps side by side: colours are organs, markers contrast phases."""
    figure = Figure(figsize=(5.2 * len(runs) + 1.6, 5.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, run in enumerate(runs):
        axes = figure.add_subplot(1, len(runs), number + 1)
        _draw(axes, run)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Axes, run: Embedded) -> None:
    places = two_dimensional(run.points)
    for organ, name in enumerate(run.names, start=1):
        for phase in np.unique(run.phases):
            chosen = (run.organs == organ) & (run.phases == phase)
            colour, marker = colormaps["tab20"]((organ - 1) % 20), MARKERS[int(phase) % len(MARKERS)]
            label = name.replace("_", " ") if phase == run.phases.min() else None
            axes.scatter(places[chosen, 0], places[chosen, 1], s=10, color=[colour], marker=marker, label=label)
    axes.set_title(f"{run.title} (silhouette {silhouette(run):.2f})")
    axes.set_xticks([])
    axes.set_yticks([])
