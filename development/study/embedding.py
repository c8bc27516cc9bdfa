"""Embeddings of held-out queries by the network of a run's contrastive stage, and how far they lie from the classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score
from torch import Tensor
from torch.nn.functional import normalize

from development.study.composition import OVERLAY, ROOT, composed
from development.study.plan import Plan
from scripts.inference.weights import load_weights
from scripts.queries.batches import QueryBatches
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.composition import trained_config
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.stage import batch_targets

PREPARE = "contrastive::trainer::prepare_batch"
OF_TRAINING, OF_SCAN = 60, 12
"""Queries of each organ: of all training cases, and of the scan that is compared with them."""
FAR = 1e3
"""Every coordinate of the mean of a class without queries."""


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


def open_run(dataset_dir: str, run_dir: str) -> Any:
    """What the config of a training names, by id, on the CPU, with its weights and all validation cases."""
    places = {"bundle_root": str(ROOT), "dataset_dir": dataset_dir, "output_dir": run_dir}
    whole = {"validation_limit": None, "device": torch.device("cpu")}
    get = ConfigParser({**trained_config(run_dir), **places, **whole}).get_parsed_content
    load_weights(get("network").eval(), get("model_path"))
    return get


class ClassDistances:
    """How far the embedded queries of a scan lie from the means of the classes of a run's training cases.

    A query without its organ is of the background class. An embedding is the pooled output of the encoder, without the
    projection head: that of the contrastive stage, and the fine-tuned one.
    """

    def __init__(self, get: Any) -> None:
        self.get, network = get, get("network")
        before = copy.deepcopy(network.segmenter.encoder)
        state = load_checkpoint(Path(get("output_dir")) / "contrastive.pt")["network"]
        before.load_state_dict({key[8:]: value for key, value in state.items() if key.startswith("encoder.")})
        self.encoders = {"contrastive": before.eval(), "fine_tuned": network.segmenter.encoder}
        views, classes, _ = self._queries(get("train_cases"), get("coarse_maps"), OF_TRAINING)
        self.means = {name: self._means(self._embed(name, views), classes) for name in self.encoders}

    def __call__(self, case: Mapping[str, Any]) -> dict[int, dict[str, float]]:
        """Signals by class index, higher for better: nearness of the class, and how much farther others are."""
        with TemporaryDirectory() as folder:
            store, segmenter, window = (self.get(name) for name in ("slice_store", "coarse_segmenter", "window"))
            views, _, organs = self._queries([case], CoarseMaps(store, segmenter, window, folder), OF_SCAN)
        signals: dict[int, dict[str, float]] = {int(organ): {} for organ in organs.unique()}
        for name, means in self.means.items():
            distances = torch.cdist(self._embed(name, views), means)
            for organ, row in signals.items():
                own, to_all = distances[organs == organ, organ], distances[organs == organ]
                row[f"{name}_to_class"] = -float(own.mean())
                row[f"{name}_class_or_background"] = float((to_all[:, 0] - own).mean())
                to_others = to_all[:, [index for index in range(1, len(means)) if index != organ]]
                row[f"{name}_class_or_other_organ"] = float((to_others.amin(dim=1) - own).mean())
        return signals

    def _queries(
        self, cases: Sequence[Mapping[str, Any]], maps: CoarseMaps, each: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Plain views of as many queries of each organ, their classes (0: the organ is not there), and their organs."""
        planner, attention, neighbours = (self.get(name) for name in ("query_planner", "attention", "adjacent_slices"))
        count = each * len(self.get("organs"))
        stream = QueryBatches(cases, maps, planner, attention, count, adjacent_slices=neighbours)
        batch = stream.batch(0, torch.Generator().manual_seed(0))
        present = (batch["label"] == 1).any(dim=3).any(dim=2)[:, 0]
        return batch["image"], batch["organ"] * present, batch["organ"]

    def _embed(self, name: str, views: Tensor) -> Tensor:
        encoder = self.encoders[name]
        return torch.cat([normalize(encoder(part)[-1].mean(dim=(2, 3)).float(), dim=1) for part in views.split(64)])

    def _means(self, points: Tensor, classes: Tensor) -> Tensor:
        """Mean of each class [class, dim]; far from everything if the class has no point."""
        means = [points[classes == index].mean(dim=0) for index in range(1 + len(self.get("organs")))]
        return torch.stack(means).nan_to_num(nan=FAR)


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
