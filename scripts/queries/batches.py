"""Batches of query patches for the contrastive and the segmentation stage."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scripts.dataset.client_cases import complete_cases
from scripts.preprocessing.intensity import RandomIntensity, soft_tissue_window
from scripts.preprocessing.organ_labels import IGNORED
from scripts.preprocessing.slice_store import StoredCase
from scripts.queries import views
from scripts.queries.attention import AttentionMap, AttentionPerturbation
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.index import Query, QueryIndex
from scripts.queries.planner import QueryPlanner
from scripts.runtime.streams import Batch, BatchStream

CACHED_PIXELS = 2**17  # of patches that a CPU cuts at once, 8 of 128 x 128: what it works on stays in its cache
POSITIONS = 10  # parts of a volume, of as many slices each, for contrast by position (our choice; PCL compares pairs)
OUTSIDE = 254  # in a label block beyond the slice: no class index, and not IGNORED


class QueryBatches(BatchStream):
    """Balanced batches of queries, cut out of the slice store.

    `present_only` and `unlabelled_confidence` choose the queries, see :class:`~scripts.queries.index.QueryIndex`; each
    has one view for segmentation, two for contrast. `adjacent_slices` neighbours on either side are extra channels.
    Without `geometry`, `intensity` and `perturbation` the views are plain patches. `device` samples the patches, by
    default that of the coarse stage; loader processes need the CPU.

    A batch has image [view, channel, x, y] (slices, then attention), label [view, 1, x, y] (1 in the organ; IGNORED
    where the truth is unknown), and per view: organ, phase, query (the same number in all views of a query), position
    (part of the volume that the slice lies in), intensity (mean of the window under the attention, in [0, 1]). With
    `all_organs` also attention and classes [view, 1, x, y] (indices, IGNORED) and annotated [view, 1 + organs] bool.
    Views of one query lie `batch_size` apart. Variants may override `_draw`, `_cut`, `_map`, `_label` and `_shown`.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        maps: CoarseMaps,
        planner: QueryPlanner,
        attention: AttentionMap,
        batch_size: int,
        views: int = 1,
        adjacent_slices: int = 0,
        present_only: bool = False,
        all_organs: bool = False,
        unlabelled_confidence: float | None = None,
        geometry: views.RandomGeometry | None = None,
        intensity: RandomIntensity | None = None,
        perturbation: AttentionPerturbation | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(seed)
        self.data = complete_cases(data, maps.store.organs)
        self.store, self.maps, self.planner, self.attention = maps.store, maps, planner, attention
        self.lower, self.upper, self.device = maps.lower, maps.upper, torch.device(device or maps.device)
        self.batch_size, self.views, self.adjacent_slices = self.share(batch_size), views, adjacent_slices
        self.present_only, self.all_organs, self.unlabelled_confidence = present_only, all_organs, unlabelled_confidence
        self.geometry, self.intensity, self.perturbation = geometry, intensity, perturbation

    @cached_property
    def index(self) -> QueryIndex:
        """The queries to draw from, planned when first needed."""
        confidence = self.unlabelled_confidence
        self.data = [case for case in self.data if case.get("label") or confidence is not None]
        self.store.prepare(self.data)
        self.maps.prepare(self.data)
        self._stored: list[StoredCase] = [self.store.open(case) for case in self.data]
        return QueryIndex(self.data, self.maps, self.planner, self.present_only, confidence)

    def plan(self) -> None:
        """Plan the queries."""
        _ = self.index

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        """Draw queries and cut their views."""
        queries = self._draw(generator) * self.views
        image, attention, label = self._cut(queries, generator)
        if self.perturbation is not None:
            attention = self.perturbation(attention, generator)
        if self.intensity is not None:
            image = self.intensity(image, generator)
        centre = image.unflatten(1, (-1, self.store.channels))[:, self.adjacent_slices].mean(dim=1, keepdim=True)
        cases = [self._stored[query.case] for query in queries]
        depths = [len(case.image) // self.store.channels for case in cases]
        mean = (centre * attention).sum(dim=(1, 2, 3)) / attention.sum(dim=(1, 2, 3)).clamp(min=1e-6)
        batch = {
            "image": torch.cat([image, attention], dim=1),
            "label": label[:, :1],
            "organ": torch.tensor([query.organ for query in queries]),
            "phase": torch.tensor([case.phase for case in cases]),
            "query": torch.tensor([query.number for query in queries]),
            "position": torch.tensor([query.slice * POSITIONS // n for query, n in zip(queries, depths, strict=True)]),
            "intensity": mean.clamp(0.0, 1.0),
        }
        if self.all_organs:
            annotated = [[index in case.annotated for index in range(1 + len(self.store.organs))] for case in cases]
            batch |= {"attention": attention, "classes": label[:, 1:], "annotated": torch.tensor(annotated)}
        return batch

    def _draw(self, generator: torch.Generator) -> list[Query]:
        """The queries of a batch, in one view each."""
        return self.index.draw(self.batch_size, generator)

    def _shown(self, query: Query) -> int:
        """Class index whose pixels the label of a query marks."""
        return query.organ

    def _cut(self, queries: Sequence[Query], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Windowed slices [view, slice, x, y], attention, label (and classes) under one random geometry."""
        size, count = self.planner.patch_size, len(queries)
        matrix, shift = torch.eye(2).repeat(count, 1, 1), torch.zeros(count, 2)
        if self.geometry is not None:
            matrix, shift = self.geometry(count, generator)
        corners = torch.tensor([[query.x, query.y] for query in queries], dtype=torch.float32)
        centres = corners + (size - 1) / 2 + shift
        moved = centres + self.perturbation.displacements(count, generator) if self.perturbation else centres
        at_once = max(1, CACHED_PIXELS // size**2) if self.device.type == "cpu" else count
        parts = []
        for first in range(0, count, at_once):
            part = slice(first, first + at_once)
            parts.append(self._cut_at_once(queries[part], centres[part], moved[part], matrix[part]))
        image, attention, label = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return image, attention, label

    def _cut_at_once(
        self, queries: Sequence[Query], centres: Tensor, moved: Tensor, matrix: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Image, attention and label of a few queries around these centres; the attention is read around `moved`."""
        size, reach = self.planner.patch_size, views.farthest_pixel(matrix, self.planner.patch_size)
        # Beyond the slice is air, as in the predictor: the window's lower end becomes 0.
        slices = [self._slices(query) for query in queries]
        hu, origins = views.gather_blocks(slices, centres, reach, fill=math.floor(self.lower))
        classes, _ = views.gather_blocks([self._label(query) for query in queries], centres, reach, fill=OUTSIDE)
        shown = torch.tensor([self._shown(query) for query in queries], device=self.device)
        blocks = torch.empty((len(queries), hu.shape[1] + 2, *hu.shape[2:]), device=self.device)
        blocks[:, :-2] = soft_tissue_window(hu.to(self.device).float(), self.lower, self.upper)
        blocks[:, -2:] = classes.to(self.device)
        # Comparing in place keeps floats, which a CPU does several times as fast as converting from booleans.
        blocks[:, -2:-1].eq_(shown[:, None, None, None])
        blocks[:, -1:].ne_(OUTSIDE)
        within, unit = centres - origins, torch.ones(len(queries), 2)
        patches = views.sample_patches(blocks, within, matrix, unit, size)
        image, label, inside = patches.split([hu.shape[1], 1, 1], dim=1)
        label.gt_(0.5)
        if bool((classes == IGNORED).any()):
            unknown = (classes == IGNORED).to(self.device).float()
            label.masked_fill_(views.sample_patches(unknown, within, matrix, unit, size) > 0.5, IGNORED)
        # The attention is sampled from its own, coarser grid, and is 0 beyond the slice.
        maps, shapes = [self._map(query) for query in queries], [each.shape[1:] for each in slices]
        attention = views.sample_maps(maps, shapes, moved, matrix, size, self.device) * inside
        if self.all_organs:
            organs = classes.masked_fill(classes == OUTSIDE, 0).to(self.device).float()
            label = torch.cat([label, views.sample_patches(organs, within, matrix, unit, size, mode="nearest")], 1)
        return image, self.attention(attention), label

    def _slices(self, query: Query) -> Tensor:
        """The slice and its neighbours in HU: [slice * channel, x, y] int16."""
        image, channels = self._stored[query.case].image, self.store.channels
        first, last = query.slice - self.adjacent_slices, query.slice + self.adjacent_slices
        if 0 <= first and (last + 1) * channels <= image.shape[0]:
            return image[first * channels : (last + 1) * channels]  # a view: nothing outside of the block is read
        return views.slices_with_neighbours(image, torch.tensor([query.slice]), self.adjacent_slices, channels)[0]

    def _label(self, query: Query) -> Tensor:
        """Label map of the slice, background in an unlabelled scan: [1, x, y] uint8."""
        stored = self._stored[query.case]
        if stored.label is None:
            return torch.zeros((), dtype=torch.uint8).expand(1, *stored.image.shape[1:])
        return stored.label[query.slice][None]

    def _map(self, query: Query) -> Tensor:
        """Coarse map that becomes a query's attention: [1, x', y'] uint8."""
        return self.maps.of(self.data[query.case])[query.slice, query.organ - 1][None]
