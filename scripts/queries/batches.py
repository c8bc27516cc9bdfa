"""Batches of query patches for the contrastive and the segmentation stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.coarse.maps import CoarseMaps
from scripts.dataset.client_cases import complete_cases
from scripts.preprocessing.intensity import RandomIntensity, check_window, soft_tissue_window
from scripts.preprocessing.organ_labels import IGNORED
from scripts.preprocessing.slice_store import SliceStore, StoredCase
from scripts.queries.attention import AttentionMap, AttentionPerturbation
from scripts.queries.background import Step, check_share, map_beside, step_in_window, with_background
from scripts.queries.index import Query, QueryIndex
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import (
    RandomGeometry,
    farthest_pixel,
    gather_blocks,
    identity_geometry,
    sample_maps,
    sample_patches,
    slices_with_neighbours,
)
from scripts.training.streams import Batch, BatchStream

CACHED_PIXELS = 2**17
"""Patch pixels that a CPU cuts at once, 8 queries of 128 x 128: what it works on stays in its cache."""

POSITIONS = 10
"""Parts of a volume, of as many slices each, for contrast by slice position (our choice; PCL compares pairs)."""

OUTSIDE = 254
"""What stands in a label block beyond the slice; no class index, and not IGNORED."""


class QueryBatches(BatchStream):
    """Balanced batches of queries, cut out of the slice store.

    Args:
        data: case dictionaries (MONAI Label puts its own here).
        store: slices of the cases.
        maps: coarse maps of the cases.
        planner: which windows are asked, the predictor's own.
        attention: how maps become the attention channel, the predictor's own.
        window: soft-tissue window in HU.
        batch_size: queries in a batch.
        views: patches of each query: 1 for segmentation, 2 for contrast.
        adjacent_slices: neighbours on either side as extra channels.
        present_only: see :class:`~scripts.queries.index.QueryIndex`.
        unlabelled_confidence: see there.
        background_share: of the queries, whose attention lies beside the organ of another query of the batch, on
            background (see scripts/queries/background.py); organ is then the number of organs + 1.
        cases_per_batch: draw each batch from so many cases and from neighbouring slices of each, so that the organs of
            one image are compared; None: every query from any case.
        geometry: random zoom, rotation, shift; None for plain patches.
        intensity: random intensities; None for none.
        perturbation: random faults of the attention; None for none.
        device: where patches are sampled.
        seed: of the stream.

    A batch has image [view, channel, x, y] (slices, then attention), label [view, 1, x, y] (1 in the organ, or in what
    is no organ; IGNORED where the truth is unknown), and per view: organ, phase, query (the same number in all views of
    a query), position (part of the volume that the slice lies in), intensity (mean of the window under the attention,
    in [0, 1]). Views of one query lie `batch_size` apart.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        store: SliceStore,
        maps: CoarseMaps,
        planner: QueryPlanner,
        attention: AttentionMap,
        window: Sequence[float],
        batch_size: int,
        views: int = 1,
        adjacent_slices: int = 0,
        present_only: bool = False,
        unlabelled_confidence: float | None = None,
        background_share: float = 0.0,
        cases_per_batch: int | None = None,
        geometry: RandomGeometry | None = None,
        intensity: RandomIntensity | None = None,
        perturbation: AttentionPerturbation | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.data = complete_cases(data, store.organs)
        self.store, self.maps, self.planner, self.attention = store, maps, planner, attention
        self.lower, self.upper = check_window(window)
        self.batch_size, self.views, self.adjacent_slices = self.share(batch_size), views, adjacent_slices
        self.present_only, self.unlabelled_confidence = present_only, unlabelled_confidence
        if cases_per_batch is not None and cases_per_batch < 1:
            raise ValueError(f"cases_per_batch {cases_per_batch} is no number of cases: give 1 or more, null for any.")
        self.background_share, self.cases_per_batch = check_share(background_share), cases_per_batch
        self.geometry, self.intensity, self.perturbation = geometry, intensity, perturbation
        self.device = torch.device(device)
        self._index: QueryIndex | None = None
        self._stored: list[StoredCase] = []

    @property
    def index(self) -> QueryIndex:
        """The queries to draw from, planned when first needed."""
        if self._index is None:
            asked = [case for case in self.data if case.get("label") or self.unlabelled_confidence is not None]
            self.store.prepare(asked)
            self.maps.prepare(asked)
            self._stored = [self.store.open(case) for case in asked]
            self.data = asked
            self._index = QueryIndex(
                asked, self.store, self.maps, self.planner, self.present_only, self.unlabelled_confidence
            )
        return self._index

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        """Draw queries and cut their views."""
        queries = self._draw(generator) * self.views
        image, attention, label = self._cut(queries, generator)
        if self.perturbation is not None:
            attention = self.perturbation(attention, generator)
        if self.intensity is not None:
            image = self.intensity(image, generator)
        centre = image.unflatten(1, (-1, self.store.channels))[:, self.adjacent_slices].mean(dim=1, keepdim=True)
        background = len(self.store.organs) + 1  # not 0, which the contrastive criterion takes for a mistake
        area = attention.sum(dim=(1, 2, 3))
        mean = (centre * attention).sum(dim=(1, 2, 3)) / area.clamp(min=1e-6)
        return {
            "image": torch.cat([image, attention], dim=1),
            "label": label,
            "organ": torch.tensor([query.organ if query.beside is None else background for query in queries]),
            "phase": torch.tensor([self._stored[query.case].phase for query in queries]),
            "query": torch.tensor([query.number for query in queries]),
            "position": torch.tensor([self._position(query) for query in queries]),
            "intensity": mean.clamp(0.0, 1.0),
        }

    def _draw(self, generator: torch.Generator) -> list[Query]:
        """The queries of a batch, in one view each."""
        if self.cases_per_batch is None:
            drawn = self.index.draw(self.batch_size, generator)
        else:
            drawn = self.index.draw_from_few(self.batch_size, self.cases_per_batch, generator)
        count = round(self.background_share * self.batch_size)
        return with_background(drawn, count, lambda query: self._step_beside(query, generator)) if count else drawn

    def _step_beside(self, query: Query, generator: torch.Generator) -> Step | None:
        """A move that brings the organ's map onto background within the query's window, if there is one."""
        maps, channels = self.maps.of(self.data[query.case])[query.slice], self.store.channels
        image = (
            self._stored[query.case].image[query.slice * channels : (query.slice + 1) * channels].float().mean(dim=0)
        )
        return step_in_window(query, maps, self._label(query)[0], image > self.lower, self.planner, generator)

    def _cut(self, queries: Sequence[Query], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Windowed slices [view, slice, x, y], attention and label [view, 1, x, y] under one random geometry."""
        size, count = self.planner.patch_size, len(queries)
        matrix, shift = identity_geometry(count) if self.geometry is None else self.geometry(count, generator)
        corners = torch.tensor([[query.x, query.y] for query in queries], dtype=torch.float32)
        centres = corners + (size - 1) / 2 + shift
        moved = centres
        if self.perturbation is not None:
            moved = centres + self.perturbation.displacements(count, generator)
        at_once = max(1, CACHED_PIXELS // size**2) if self.device.type == "cpu" else count
        parts = []
        for first in range(0, count, at_once):
            part = slice(first, first + at_once)
            image, label, inside = self._image_and_label(queries[part], centres[part], matrix[part])
            parts.append((image, self._attention(queries[part], moved[part], matrix[part], inside, label), label))
        image, attention, label = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return image, attention, label

    def _image_and_label(
        self, queries: Sequence[Query], centres: Tensor, matrix: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Windowed slices [view, slice, x, y], the organ's label and 1 inside of the slice, [view, 1, x, y] each."""
        reach, size = farthest_pixel(matrix, self.planner.patch_size), self.planner.patch_size
        # Beyond the slice is air, as in the predictor: the window's lower end becomes 0.
        slices = [self._slices(query) for query in queries]
        hu, origins = gather_blocks(slices, centres, reach, fill=math.floor(self.lower))
        classes, _ = gather_blocks([self._label(query) for query in queries], centres, reach, fill=OUTSIDE)
        asked = [query.organ if query.beside is None else 0 for query in queries]
        organ = torch.tensor(asked, device=self.device)
        blocks = torch.empty((len(queries), hu.shape[1] + 2, *hu.shape[2:]), device=self.device)
        blocks[:, :-2] = soft_tissue_window(hu.to(self.device).float(), self.lower, self.upper)
        blocks[:, -2:] = classes.to(self.device)
        # Comparing in place keeps floats, which a CPU does several times as fast as converting from booleans.
        blocks[:, -2:-1].eq_(organ[:, None, None, None])
        blocks[:, -1:].ne_(OUTSIDE)
        within, unit = centres - origins, torch.ones(len(queries), 2)
        sampled = sample_patches(blocks, within, matrix, unit, size)
        label = sampled[:, -2:-1].gt_(0.5)
        if bool((classes == IGNORED).any()):
            unknown = (classes == IGNORED).to(self.device).float()
            label.masked_fill_(sample_patches(unknown, within, matrix, unit, size) > 0.5, IGNORED)
        return sampled[:, :-2], label, sampled[:, -1:]

    def _position(self, query: Query) -> int:
        """Part of the volume, 0 to POSITIONS - 1 from its first slice on."""
        return query.slice * POSITIONS // (len(self._stored[query.case].image) // self.store.channels)

    def _slices(self, query: Query) -> Tensor:
        """The slice and its neighbours in HU: [slice * channel, x, y] int16."""
        image, channels = self._stored[query.case].image, self.store.channels
        first, last = query.slice - self.adjacent_slices, query.slice + self.adjacent_slices
        if 0 <= first and (last + 1) * channels <= image.shape[0]:
            return image[first * channels : (last + 1) * channels]  # a view: nothing outside of the block is read
        return slices_with_neighbours(image, torch.tensor([query.slice]), self.adjacent_slices, channels)[0]

    def _label(self, query: Query) -> Tensor:
        """Label map of the slice, background in an unlabelled scan: [1, x, y] uint8."""
        stored = self._stored[query.case]
        if stored.label is None:
            return torch.zeros((), dtype=torch.uint8).expand(1, *stored.image.shape[1:])
        return stored.label[query.slice][None]

    def _attention(
        self, queries: Sequence[Query], centres: Tensor, matrix: Tensor, inside: Tensor, label: Tensor
    ) -> Tensor:
        """Attention of each query, sampled with the image's geometry from the coarser grid: [view, 1, x, y]."""
        maps = [self._map(query) for query in queries]
        shapes = [self._stored[query.case].image.shape[1:] for query in queries]
        sampled = sample_maps(maps, shapes, centres, matrix, self.planner.patch_size, self.device)
        attention: Tensor = self.attention(sampled * inside)
        beside = [n for n, query in enumerate(queries) if query.beside is not None]
        if beside:
            attention[beside] = attention[beside] * (label[beside] == 1)  # no pixel of any organ
        return attention

    def _map(self, query: Query) -> Tensor:
        """Coarse map that becomes a query's attention: [1, x', y'] uint8."""
        maps = self.maps.of(self.data[query.case])[query.slice]
        if query.beside is None:
            return maps[query.organ - 1][None]
        return map_beside(maps, query.organ, query.beside, self.planner.threshold)


def query_targets(batch: Batch, device: torch.device, non_blocking: bool, **_: Any) -> tuple[Tensor, Batch]:
    """MONAI's prepare_batch for contrast and segmentation: views, and all that is known of them."""
    targets = {key: batch[key].to(device, non_blocking=non_blocking) for key in batch if key != "image"}
    return batch["image"].to(device, non_blocking=non_blocking), targets
