"""The index of queries: which (case, slice, organ, window) training may draw, balanced over organs and cases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scripts.coarse.maps import CoarseMaps
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.planner import QueryPlanner
from scripts.training.streams import in_turns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """One query: everything that names a patch, and no pixel of it.

    Attributes:
        case: position in the list of cases.
        organ: class index.
        slice: slice of the case.
        x: first pixel of the window along x.
        y: first pixel of the window along y.
        number: its own number, the same in every view of it.
    """

    case: int
    organ: int
    slice: int
    x: int
    y: int
    number: int


def organs_in_slices(label: Tensor, organs: int) -> Tensor:
    """Which organ is in which slice: label [slice, x, y] -> [slice, 1 + organs] bool."""
    found = torch.zeros((label.shape[0], organs + 1), dtype=torch.bool)
    for z in range(label.shape[0]):
        values = torch.unique(label[z]).long()
        found[z, values[values <= organs]] = True
    return found


class QueryIndex:
    """All queries that inference would ask of the training cases, grouped by organ and case.

    Args:
        cases: case dictionaries.
        store: their slices.
        maps: their coarse maps.
        planner: the same planner as the predictor's.
        present_only: keep a query only where its organ really is in the slice (contrastive stage: a view without the
            organ is no positive). The segmentation stage also learns from queries whose coarse map is wrong.

    Organs that a case was not contoured for are left out: their truth is unknown.
    """

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        store: SliceStore,
        maps: CoarseMaps,
        planner: QueryPlanner,
        present_only: bool = False,
    ) -> None:
        self.groups: dict[int, list[tuple[int, Tensor]]] = {}
        for number, case in enumerate(cases):
            stored = store.open(case)
            if stored.label is None:
                continue
            plan = planner(maps.of(case).float() / 255, stored.image.shape[1], stored.image.shape[2])
            if present_only:
                plan = plan[organs_in_slices(stored.label, len(store.organs))[plan[:, 0], plan[:, 1] + 1]]
            for organ in stored.annotated:
                chosen = plan[plan[:, 1] == organ - 1]
                if len(chosen):
                    self.groups.setdefault(organ, []).append((number, chosen))
        self._check(store.organs)

    def _check(self, organs: Sequence[str]) -> None:
        lost = [organ for n, organ in enumerate(organs, start=1) if n not in self.groups]
        if len(lost) == len(organs):
            raise ValueError(
                "no organ has a query: the coarse stage finds nothing in the training cases. Train it longer "
                "(coarse::stage::epochs) or lower the planner's threshold."
            )
        if lost:
            logger.warning("no queries for %s: the coarse stage never finds them.", ", ".join(lost))

    def draw(self, count: int, generator: torch.Generator) -> list[Query]:
        """Draw queries: organs in turn from a random start, then a case, then a window, each with equal chance."""
        drawn = []
        for number, organ in enumerate(in_turns(sorted(self.groups), count, generator)):
            group = self.groups[organ]
            case, plan = group[int(torch.randint(len(group), (1,), generator=generator))]
            z, _, x, y = plan[int(torch.randint(len(plan), (1,), generator=generator))].tolist()
            drawn.append(Query(case, organ, z, x, y, number))
        return drawn
