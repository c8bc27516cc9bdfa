"""Embeddings of held-out queries by the network of a run's contrastive stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from development.study.composition import OVERLAY, ROOT, configs_of
from development.study.plan import Plan, Run
from scripts.queries.batches import QueryBatches
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.resume import load_checkpoint

HELD_OUT_MAPS = "coarse_maps_held_out"
"""Folder in a run's, for the coarse maps of the validation patients."""


@dataclass(frozen=True)
class Embedded:
    """Embedded queries of one run.

    Attributes:
        title: of the arm.
        points: unit-norm embeddings [query, dim].
        organs: class index of every query.
        phases: index of the contrast phase of every query.
        names: organ names in the order of their class indices.
        phase_names: names of the contrast phases in the order of their indices; empty if the data has none.
    """

    title: str
    points: NDArray[np.float32]
    organs: NDArray[np.int64]
    phases: NDArray[np.int64]
    names: list[str]
    phase_names: list[str]


def run_of_folder(folder: Path) -> Run:
    """The run whose folder this is: .../REGIME/LABELLED/ARM/seedK."""
    regime, labelled, arm, seed = folder.resolve().parts[-4:]
    if not (labelled.isdigit() and seed.startswith("seed") and seed[4:].isdigit()):
        raise ValueError(f"{folder} is no folder of a run: expected one such as runs/study/same/168/supcon/seed0.")
    return Run(arm, regime, int(labelled), int(seed[4:]))


@torch.no_grad()
def embed_run(plan: Plan, folder: Path, dataset_dir: str, cache_dir: str, queries: int) -> Embedded:
    """Embed queries of the validation patients, without augmentation.

    The queries are those that the run's own coarse stage asks and in which the organ is present; organs take turns.
    Runs that share a coarse stage get the same ones.

    Args:
        plan: the study of the run.
        folder: of the run; holds contrastive.pt and coarse.pt.
        dataset_dir: folder with the dataset.json.
        cache_dir: slice cache.
        queries: how many.

    Raises:
        ValueError: the folder is of no run, or the run has no contrastive stage.
    """
    run = run_of_folder(folder)
    for name in ("contrastive.pt", "coarse.pt", OVERLAY):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} has no {name}: give runs of arms with a contrastive stage, trained by this study."
            )
    if run.arm not in plan.arms:
        raise ValueError(f"the study has no arm '{run.arm}', of which {folder} is a run: give its plan with --plan.")
    parser = _parser(plan, run, folder, dataset_dir, cache_dir)
    get = parser.get_parsed_content
    get("coarse_segmenter").network.load_state_dict(load_checkpoint(folder / "coarse.pt")["network"])
    network = get("contrastive::network")
    network.load_state_dict(load_checkpoint(folder / "contrastive.pt")["network"])
    batch = _batches(get, folder, queries).batch(0, torch.Generator().manual_seed(0))
    views, targets = get("contrastive::trainer::prepare_batch")(batch, torch.device("cpu"), False)
    points = torch.cat([network.eval()(part) for part in views.split(64)]).float().numpy()
    organs, phases = (targets[key].numpy() for key in ("organ", "phase"))
    return Embedded(plan.arms[run.arm].title, points, organs, phases, list(get("organs")), list(get("phases")))


def _batches(get: Any, folder: Path, queries: int) -> QueryBatches:
    """The stream of plain views of the validation patients."""
    maps = CoarseMaps(get("slice_store"), get("coarse_segmenter"), get("window"), str(folder / HELD_OUT_MAPS))
    return QueryBatches(
        get("validation_cases"),
        maps,
        get("query_planner"),
        get("attention"),
        queries,
        adjacent_slices=get("adjacent_slices"),
        present_only=True,
    )


def _parser(plan: Plan, run: Run, folder: Path, dataset_dir: str, cache_dir: str) -> ConfigParser:
    """The run's configs, with all validation patients, on the CPU."""
    parser = ConfigParser()
    files = [ROOT / name for name in configs_of(plan, run.arm)]
    parser.read_config([*map(str, files), str(folder / OVERLAY)])
    here = {"bundle_root": str(ROOT), "dataset_dir": dataset_dir, "output_dir": str(folder), "cache_dir": cache_dir}
    parser.update(pairs={**here, "validation_limit": None, "device": torch.device("cpu")})
    return parser
