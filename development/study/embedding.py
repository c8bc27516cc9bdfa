"""Embeddings of held-out queries by the network of a run's contrastive stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from development.study.composition import OVERLAY, ROOT, composed
from development.study.plan import Plan
from scripts.queries.batches import QueryBatches
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.stage import batch_targets

PREPARE = "contrastive::trainer::prepare_batch"


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
    batch = _batches(get, folder, queries).batch(0, torch.Generator().manual_seed(0))
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


def _batches(get: Any, folder: Path, queries: int) -> QueryBatches:
    """The stream of plain views of the validation patients."""
    store, segmenter, window = (get(name) for name in ("slice_store", "coarse_segmenter", "window"))
    return QueryBatches(
        get("validation_cases"),
        CoarseMaps(store, segmenter, window, str(folder / "coarse_maps_held_out")),
        get("query_planner"),
        get("attention"),
        queries,
        adjacent_slices=get("adjacent_slices"),
        present_only=True,
    )
