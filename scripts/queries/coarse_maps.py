"""Coarse maps of stored cases, the attention of the query stage: written by cross-fitting, or when first opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.distributed import barrier
from torch import Tensor
from tqdm import tqdm

from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import check_window, soft_tissue_window
from scripts.preprocessing.slice_store import SliceStore, open_array, save_array, stored_name
from scripts.queries.attention import maps_on_slices
from scripts.runtime.precision import autocast
from scripts.runtime.processes import shard
from scripts.runtime.run_folder import RunPlace, placed


class CoarseMaps:
    """Coarse maps per case: [slice, organ, x, y] uint8, 255 for probability 1.

    They lie in `folder`, relative to `place` (the current folder by default). The segmenter predicts those that are not
    there yet, on `device` and in a `precision`, from slices in the soft-tissue window [lower, upper] in HU.
    """

    def __init__(
        self,
        store: SliceStore,
        segmenter: CoarseSegmenter,
        window: Sequence[float],
        folder: str,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        place: RunPlace | None = None,
    ) -> None:
        self.store, self.segmenter, self.folder, self.place = store, segmenter, folder, place
        self.lower, self.upper = check_window(window)
        self.device, self.precision = torch.device(device), precision
        self._opened: dict[str, Tensor] = {}

    def has(self, case: Mapping[str, Any]) -> bool:
        """Whether the maps of a case are on disk."""
        return self.file(case).exists()

    def of(self, case: Mapping[str, Any]) -> Tensor:
        """Maps of a case, predicted now if they are not there."""
        name = stored_name(case)
        if name not in self._opened:
            if not self.has(case):
                self.write(case, self.segmenter)
            self._opened[name] = open_array(self.file(case))
        return self._opened[name]

    def prepare(
        self, cases: Sequence[Mapping[str, Any]], segmenter: CoarseSegmenter | None = None, title: str = "coarse maps"
    ) -> None:
        """Predict the maps that are not there yet, with a progress bar; several processes share them."""
        missing = [case for case in shard(cases) if not self.has(case)]
        for case in tqdm(missing, desc=title, unit="scan", disable=not missing):
            self.write(case, segmenter or self.segmenter)
        barrier()

    def write(self, case: Mapping[str, Any], segmenter: CoarseSegmenter) -> None:
        """Predict and keep the maps of one case."""
        self.keep(case, self.predict(case, segmenter))

    @torch.no_grad()
    def predict(self, case: Mapping[str, Any], segmenter: CoarseSegmenter) -> Tensor:
        """Maps of one case by a coarse stage, which need not be the one whose maps are kept."""
        segmenter.to(self.device).eval()
        volume = self.store.open(case).volume().to(self.device).float()
        with autocast(self.device, self.precision):
            coarse = segmenter(soft_tissue_window(volume, self.lower, self.upper))
        return (maps_on_slices(coarse, volume.shape[3]) * 255).round().to(torch.uint8).cpu()

    def reopen(self) -> None:
        """Forget which maps are open: another process may have put others in their place."""
        self._opened.clear()

    def keep(self, case: Mapping[str, Any], maps: Tensor) -> None:
        """Put the maps of a case on disk, in place of those that are there."""
        self._opened.pop(stored_name(case), None)
        save_array(self.file(case), maps.numpy())

    def file(self, case: Mapping[str, Any]) -> Path:
        """Where the maps of a case lie."""
        return placed(self.folder, self.place) / f"{stored_name(case)}.npy"
