"""Coarse stage: train the 3D network, cross-fitted, and keep the attention maps of the training cases.

A coarse network is better on its own training cases than on new ones, so a query network trained on in-sample maps
trusts them too much. With k folds every training case gets its maps from a network that has not seen it; the network
that goes into the predictor is then trained on all cases. folds=1 is the public code's in-sample form.

With few patients a fold's network misses whole organs, which would then never be queried in training. An organ that
it hardly finds gets the map of the final network instead. A map that is sure of itself, and whose contour lies
elsewhere, stays: then the contour is doubted, not the map (`scripts.coarse.doubts`).
"""

import copy
import gc
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from ignite.distributed import barrier

from scripts.coarse.cpu_training import for_training
from scripts.coarse.doubts import UNSURE, Doubt, fits_of, judge
from scripts.coarse.patches import CoarsePatches
from scripts.coarse.recall import coarse_recall, map_dice, recall_table
from scripts.dataset.problems import listed
from scripts.files.atomic_write import write_text
from scripts.losses.partial_labels import OrganWeightDecay, PartialDiceCELoss
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import RandomIntensity
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.views import RandomGeometry
from scripts.runtime.precision import PrecisionInferer
from scripts.runtime.processes import is_first_process, on_device, shard
from scripts.runtime.run_folder import RunPlace
from scripts.runtime.stage import stage_trainer

logger = logging.getLogger(__name__)


def split_folds(patients: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """Deal the patient of each case into folds at random, with all scans; the same seed gives the same folds.

    Returns the case numbers of each fold: every number in exactly one of them.
    """
    people = list(dict.fromkeys(patients))
    if not 1 <= folds <= max(1, len(people)):
        raise ValueError(f"{folds} folds of {len(people)} training patients are not possible: give 1 to {len(people)}.")
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed)).tolist()
    fold_of = {people[number]: place % folds for place, number in enumerate(order)}
    return [[number for number, who in enumerate(patients) if fold_of[who] == fold] for fold in range(folds)]


class CrossFittedCoarse:
    """Trains the coarse stage and writes the maps of all training cases.

    Args:
        data: training cases, labelled for at least some organs.
        maps, segmenter: where the maps go, and the coarse stage of the predictor, which is trained in place.
        output_dir: checkpoints coarse.pt and coarse_fold<k>.pt, and coarse_recall.json.
        folds: cross-fitting folds, 1 for in-sample maps (public code).
        epochs, fold_epochs: of the final network, and of each fold's (None: as many).
        learning_rate: highest rate of AdamW, after a warm-up of 5 % and before a cosine decay (our choice).
        organ_weight: of organs in the loss at the start, see `OrganWeightDecay`. The rest is as in `CoarsePatches`.
        threshold: the planner's, for the report of organs that the coarse stage misses.
        least_dice: of an organ's cross-fitted map in a case; a worse one is replaced by the final network's, in-sample,
            unless the contour is doubted. 0: never (our choice: .3; docs/explanation/what_we_tried.md).
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        maps: CoarseMaps,
        segmenter: CoarseSegmenter,
        output_dir: str,
        patch_size: Sequence[int],
        epochs: int,
        epoch_length: int,
        folds: int = 2,
        batch_size: int = 2,
        fold_epochs: int | None = None,
        learning_rate: float = 1.0e-2,
        organ_weight: float = 20.0,
        organ_share: float = 0.8,
        threshold: float = 0.3,
        least_dice: float = 0.3,
        geometry: RandomGeometry | None = None,
        intensity: RandomIntensity | None = None,
        seed: int = 0,
    ) -> None:
        self.data = [case for case in data if case.get("label")]
        self.maps, self.segmenter, self.output_dir = maps, segmenter, Path(output_dir)
        self.folds = split_folds([str(case.get("patient", case["case"])) for case in self.data], folds, seed)
        self.epochs, self.epoch_length, self.fold_epochs = epochs, epoch_length, fold_epochs or epochs
        self.learning_rate, self.organ_weight = learning_rate, organ_weight
        if not 0 <= least_dice <= 1:
            raise ValueError(f"least_dice {least_dice} is no Dice: give a number in [0, 1].")
        self.threshold, self.least_dice = threshold, float(least_dice)
        drawn = {"geometry": geometry or RandomGeometry(shift=0.0), "intensity": intensity, "organ_share": organ_share}
        self.patches: dict[str, Any] = {"patch_size": patch_size, "batch_size": batch_size, "seed": seed, **drawn}

    def run(self) -> None:
        """Train what is not trained, write the maps that are missing, report what the coarse stage misses."""
        self.maps.store.prepare(self.data)
        untrained = copy.deepcopy(self.segmenter)
        if len(self.folds) > 1:
            for number, held_out in enumerate(self.folds):
                self._cross_fit(number, held_out, copy.deepcopy(untrained))
        self._train("coarse", self.data, self.segmenter, self.epochs)
        self.maps.prepare(self.data, self.segmenter, "coarse maps")
        self._report()
        barrier()  # the report is of the cross-fitted maps
        if len(self.folds) > 1 and self.least_dice > 0:
            self._show_missed_organs()

    @cached_property
    def doubts(self) -> list[Doubt]:
        """Contours that lie elsewhere than sure maps of networks that have not seen them; reads all maps."""
        if len(self.folds) == 1:
            return []
        fits = (fits_of(self.maps.store.open(case), self.maps.of(case), self.maps.store) for case in self.data)
        return [doubt for doubt in judge(list(chain.from_iterable(fits))) if doubt.kind != UNSURE]

    def _cross_fit(self, number: int, held_out: Sequence[int], segmenter: CoarseSegmenter) -> None:
        """Train on the other folds, write the maps of this one."""
        unseen = [self.data[n] for n in held_out]
        if all(self.maps.has(case) for case in unseen):
            return
        others = [case for n, case in enumerate(self.data) if n not in set(held_out)]
        self._train(f"coarse_fold{number}", others, segmenter, self.fold_epochs)
        self.maps.prepare(unseen, segmenter, f"maps of fold {number}")

    def _train(self, name: str, cases: Sequence[Mapping[str, Any]], segmenter: CoarseSegmenter, epochs: int) -> None:
        """Train one network, resuming from its checkpoint; a finished one is only loaded."""
        network = for_training(segmenter.network, self.maps.device)
        window, device = (self.maps.lower, self.maps.upper), self.maps.device
        batches = CoarsePatches(cases, self.maps.store, segmenter, window, device=device, **self.patches)
        loss = PartialDiceCELoss(len(self.maps.store.organs), self.organ_weight).to(self.maps.device)
        together = on_device(network, self.maps.device)
        stage_trainer(
            name,
            self.maps.device,
            epochs,
            self.epoch_length,
            batches,
            network=together,
            optimizer=torch.optim.AdamW(together.parameters(), lr=self.learning_rate, weight_decay=1.0e-4),
            loss_function=loss,
            inferer=PrecisionInferer(self.maps.precision),
            place=RunPlace(str(self.output_dir)),
            train_handlers=[OrganWeightDecay(loss)],
            warmup_steps=max(1, epochs * self.epoch_length // 20),
        ).run()
        gc.collect()  # the trainer and its scans, which refer to each other

    def _report(self) -> None:
        """Log and write which organs the coarse stage misses; they cannot be recovered later."""
        path = self.output_dir / "coarse_recall.json"
        if path.exists() or not is_first_process():
            return
        recall = coarse_recall(self.data, self.maps, self.threshold)
        logger.info("coarse recall on the training cases:\n%s", recall_table(recall))
        for organ in recall:
            recall[organ]["doubted_cases"] = [doubt.fit.case for doubt in self.doubts if doubt.fit.organ == organ]
        if self.doubts:
            named = listed([f"{doubt.fit.case} {doubt.fit.organ} ({doubt.kind})" for doubt in self.doubts])
            logger.info("%d contours lie elsewhere than maps that are sure of themselves: %s. To see all of them: "
                        "python -m scripts.dataset_report.doubts", len(self.doubts), named)  # fmt: skip
        write_text(path, json.dumps(recall, indent=1))

    def _show_missed_organs(self) -> None:
        """Where a fold's network finds an organ nowhere or everywhere, keep the final network's map if it is better.

        Done once: it reads all maps, which takes minutes for thousands of cases.
        """
        done, replaced = self.maps.file(self.data[0]).with_name("missed_organs_shown"), 0
        if done.exists():
            return
        recall = json.loads((self.output_dir / "coarse_recall.json").read_text(encoding="utf-8"))
        doubted = {(case, organ) for organ, found in recall.items() for case in found.get("doubted_cases", ())}
        for case in shard(self.data):
            stored, kept = self.maps.store.open(case), self.maps.of(case)
            dice = map_dice(stored, kept)
            missed = [organ for organ, value in dice.items() if value < self.least_dice
                      and (stored.name, self.maps.store.organs[organ - 1]) not in doubted]  # fmt: skip
            if not missed:
                continue
            final = self.maps.predict(case, self.segmenter)
            better = map_dice(stored, final)
            if improved := [organ - 1 for organ in missed if better[organ] > dice[organ]]:
                maps = kept.clone()
                maps[:, improved] = final[:, improved]
                del kept  # Windows replaces no file that is mapped
                self.maps.keep(case, maps)
                replaced += len(improved)
        if replaced:
            logger.info("%d maps that miss their organ are now the final network's.", replaced)
        barrier()
        self.maps.reopen()
        if is_first_process():
            done.touch()
