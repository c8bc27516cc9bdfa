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
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from development.study.composition import ROOT
from development.study.embedding import Embedded, embed_run
from development.study.plan import read_plan
from scripts.files.atomic_write import replacing

SEED = 0
PERPLEXITY = 30.0


def main(arguments: Sequence[str]) -> int:
    """Embed the queries of all runs and draw them."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study embed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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


def silhouette(points: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """How far classes lie apart in the embedding itself, -1 to 1; NaN unless there are 2 to queries - 1 of them."""
    if not 1 < len(set(classes.tolist())) < len(points):
        return float("nan")
    return float(silhouette_score(points, classes))


def phase_silhouette(run: Embedded) -> float:
    """How far the contrast phases lie apart within an organ: mean over the organs that are there in several."""
    of_organs = [
        silhouette(run.points[run.organs == organ], run.phases[run.organs == organ]) for organ in set(run.organs)
    ]
    return float(np.nanmean(of_organs))


def two_dimensional(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The t-SNE map of embeddings, the same at every call."""
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    places: NDArray[np.float32] = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(points)
    return places


def save_map(runs: Sequence[Embedded], path: Path) -> None:
    """Draw the maps side by side, coloured by organ, and where there are several contrast phases also by those."""
    rows = 1 + any(map(has_phases, runs))
    figure = Figure(figsize=(5.2 * len(runs) + 1.6, 5.2 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, len(runs), squeeze=False)
    for column, run in enumerate(runs):
        places = two_dimensional(run.points)
        _draw(panels[0, column], places, run.organs, run.names, colormaps["tab20"], first=1)
        panels[0, column].set_title("\n".join([run.title, *summary(run)]), fontsize=9)
        if rows > 1:
            _draw(panels[1, column], places, run.phases, run.phase_names, colormaps["Dark2"], first=0)
    for row in panels:
        row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(
    axes: Axes,
    places: NDArray[np.float32],
    classes: NDArray[np.int64],
    names: Sequence[str],
    colours: Colormap,
    first: int,
) -> None:
    """One map [query, 2] in the colours of classes, whose indices begin at `first`."""
    for index, name in enumerate(names, start=first):
        chosen = classes == index
        colour = colours((index - first) % colours.N)
        axes.scatter(places[chosen, 0], places[chosen, 1], s=9, color=[colour], label=name.replace("_", " "))
    axes.set_xticks([])
    axes.set_yticks([])
