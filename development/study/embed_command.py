r"""The command `python -m development.study embed`: a t-SNE map of held-out queries, one panel for each run.

    python -m development.study embed --dataset_dir OPENKBP --model_path runs/study/same/168/supcon/seed0 \
      runs/study/same/168/contrast_without_attention/seed0

Each point is a query of a validation patient, in the embedding that the contrastive stage was trained in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from development.study.composition import OVERLAY, ROOT, composed
from development.study.embedding import maps_in, plain_batch
from development.study.plan import Plan, read_plan
from scripts.files.atomic_write import replacing
from scripts.runtime.plain_errors import command_parser
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.stage import batch_targets

PREPARE = "contrastive::trainer::prepare_batch"
SEED = 0
PERPLEXITY = 30.0


@dataclass(frozen=True)
class Embedded:
    """Embedded queries of one run of the arm with this title.

    The points are unit-norm embeddings [query, dim]; every query has the class index of its organ and the index of its
    contrast phase. The names are in the order of these indices; `phase_names` is empty if the data has no phases.
    """

    title: str
    points: NDArray[np.float32]
    organs: NDArray[np.int64]
    phases: NDArray[np.int64]
    names: list[str]
    phase_names: list[str]


@torch.no_grad()
def embed_run(plan: Plan, folder: Path, dataset_dir: str, cache_dir: str, queries: int) -> Embedded:
    """Embed queries of the validation patients, without augmentation, on the CPU.

    The queries are those that the run's own coarse stage plans and in which the organ is present; organs take turns.
    Runs that share a coarse stage get the same ones.

    The folder of the run is .../REGIME/LABELLED/ARM/seedK and has contrastive.pt and coarse.pt; `dataset_dir` has the
    dataset.json, `cache_dir` the slice cache.

    Raises:
        ValueError: the folder is of no run of the plan, or the run has no contrastive stage.
    """
    arm = folder.resolve().parent.name
    if arm not in plan.arms:
        raise ValueError(f"the study has no arm '{arm}', of which {folder} is a run: give its plan with --plan.")
    for name in ("contrastive.pt", "coarse.pt", OVERLAY):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: give runs of arms with a contrastive stage, made by this study.")
    parser = composed(plan, arm, folder / OVERLAY)
    here = {"bundle_root": str(ROOT), "dataset_dir": dataset_dir, "output_dir": str(folder), "cache_dir": cache_dir}
    parser.update(pairs={**here, "validation_limit": None, "device": torch.device("cpu")})
    get = parser.get_parsed_content
    get("coarse_segmenter").network.load_state_dict(load_checkpoint(folder / "coarse.pt")["network"])
    network = get("contrastive::network")
    network.load_state_dict(load_checkpoint(folder / "contrastive.pt")["network"])
    batch = plain_batch(
        get, get("validation_cases"), maps_in(get, folder / "coarse_maps_held_out"), queries, present_only=True
    )
    prepare = get(PREPARE) if PREPARE in parser else batch_targets
    views, targets = prepare(batch, torch.device("cpu"), False)
    points = torch.cat([network.eval()(part) for part in views.split(64)]).float().numpy()
    organs, phases = (targets[key].numpy() for key in ("organ", "phase"))
    return Embedded(plan.arms[arm].title, points, organs, phases, list(get("organs")), list(get("phases")))


def silhouette(points: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """How far classes lie apart in the embedding itself, -1 to 1; NaN unless there are 2 to queries - 1 of them."""
    if not 1 < len(set(classes.tolist())) < len(points):
        return float("nan")
    return float(silhouette_score(points, classes))


def phase_silhouette(run: Embedded) -> float:
    """How far the contrast phases lie apart within an organ: mean over the organs that are there in several."""
    parts = [run.organs == organ for organ in set(run.organs)]
    return float(np.nanmean([silhouette(run.points[part], run.phases[part]) for part in parts]))


def main(arguments: Sequence[str]) -> int:
    """Embed the queries of all runs and draw them."""
    parser = command_parser("development.study embed", __doc__)
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
