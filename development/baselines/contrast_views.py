"""Other views to contrast: of few cases, so that organs that touch are each other's negatives; without attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scripts.queries.batches import QueryBatches
from scripts.queries.index import Query, QueryIndex
from scripts.runtime.stage import batch_targets
from scripts.runtime.streams import Batch, in_turns

ADJACENT = 1  # slices on either side that count as the same image


class SameImageBatches(QueryBatches):
    """Query batches of `cases_per_batch` cases, and of neighbouring slices of each."""

    def __init__(self, cases_per_batch: int, **settings: Any) -> None:
        super().__init__(**settings)
        if cases_per_batch < 1:
            raise ValueError(f"cases_per_batch {cases_per_batch} is no number of cases: give 1 or more.")
        self.cases_per_batch = cases_per_batch

    def _draw(self, generator: torch.Generator) -> list[Query]:
        """The queries of a batch, in one view each."""
        return draw_from_few(self.index, self.batch_size, self.cases_per_batch, generator)


def draw_from_few(index: QueryIndex, count: int, cases: int, generator: torch.Generator) -> list[Query]:
    """Draw queries of few cases, those of each case from one slice and its neighbours.

    Organs take turns in choosing case and slice; then the organs of these slices take turns.
    """
    anchors = index.draw(min(cases, count), generator)
    drawn: list[tuple[int, Query]] = []
    for n, anchor in enumerate(anchors):
        near = _near(index, anchor)
        share = count // len(anchors) + (n < count % len(anchors))
        for turn, organ in enumerate(in_turns(torch.unique(near[:, 1]).tolist(), share, generator)):
            plan = near[near[:, 1] == organ]
            z, _, x, y = plan[int(torch.randint(len(plan), (1,), generator=generator))].tolist()
            drawn.append((turn, Query(anchor.case, organ + 1, z, x, y, number=0)))
    drawn.sort(key=lambda entry: entry[0])  # cases take turns
    return [replace(query, number=number) for number, (_, query) in enumerate(drawn)]


def _near(index: QueryIndex, query: Query) -> Tensor:
    """Queries of a query's case within ADJACENT slices, [query, 4] as the planner gives them."""
    plan = torch.cat([plan for group in index.groups.values() for case, plan in group if case == query.case])
    return plan[(plan[:, 0] - query.slice).abs() <= ADJACENT]


def unattended_targets(batch: Batch, device: torch.device, non_blocking: bool, **_: Any) -> tuple[Tensor, Batch]:
    """MONAI's prepare_batch: views [view, slice, x, y] whose attention channel, the last one, is left out.

    The network is not told which organ is meant.
    """
    views, targets = batch_targets(batch, device, non_blocking)
    return views[:, :-1], targets
