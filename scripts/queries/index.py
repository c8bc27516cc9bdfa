"""The index of queries: which (case, slice, organ, window) training may draw, balanced over organs and cases."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from scripts.files.atomic_write import replacing
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.planner import QueryPlanner
from scripts.runtime.streams import in_turns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """One query: everything that names a patch, and no pixel of it."""

    case: int  # position in the list of cases
    organ: int  # class index
    slice: int
    x: int  # first pixel of the window
    y: int
    number: int  # its own, the same in every view of it


def organs_in_slices(label: Tensor, organs: int) -> Tensor:
    """Which organ is in which slice: label [slice, x, y] -> [slice, 1 + organs] bool."""
    found = torch.zeros((label.shape[0], organs + 1), dtype=torch.bool)
    for z, plane in enumerate(label):
        values = torch.unique(plane).long()
        found[z, values[values <= organs]] = True
    return found


def map_confidence(maps: Tensor, threshold: float) -> Tensor:
    """How sure coarse maps [slice, organ, x, y] are: mean probability where they reach the threshold, [slice, organ].

    0 where they do not reach it anywhere. Example: pixels of .1, .5 and .9 at a threshold of .3 give .7.
    """
    reached = maps >= threshold
    return (maps * reached).sum(dim=(2, 3)) / reached.sum(dim=(2, 3)).clamp(min=1)


class QueryIndex:
    """All queries that inference would plan in the training cases, grouped by organ and case.

    With `present_only` a query is kept only where its organ really is in the slice (contrastive stage: a view without
    the organ is no positive); otherwise the network also learns from queries whose coarse map is wrong. Organs that a
    case was not contoured for are left out: their truth is unknown.

    With `unlabelled_confidence` there are queries of unlabelled scans too, where the coarse map of the organ is that
    sure of it in the slice (contrastive stage). ValueError: no organ has a query, or the confidence is no probability.
    """

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        maps: CoarseMaps,
        planner: QueryPlanner,
        present_only: bool = False,
        unlabelled_confidence: float | None = None,
    ) -> None:
        if unlabelled_confidence is not None and not 0 < unlabelled_confidence <= 1:
            given = f"unlabelled_confidence {unlabelled_confidence} is no probability"
            raise ValueError(f"{given}: give one such as 0.7, or null to leave unlabelled scans out.")
        self.store, self.maps, self.planner = maps.store, maps, planner
        self.present_only, self.unlabelled_confidence = present_only, unlabelled_confidence
        self.groups: dict[int, list[tuple[int, Tensor]]] = {}
        self._planned = self._sure = 0
        for number, case in enumerate(cases):
            if self.store.open(case).label is not None or unlabelled_confidence is not None:
                self._add(number, case)
        if self._planned:
            logger.info("unlabelled scans: the coarse maps of %d of %d queries are sure.", self._sure, self._planned)
        lost = [organ for n, organ in enumerate(self.store.organs, start=1) if n not in self.groups]
        if len(lost) == len(self.store.organs):
            lost_all = "no organ has a query: the coarse stage finds nothing in the training cases"
            raise ValueError(f"{lost_all}. Train it longer (coarse::stage::epochs) or lower the planner's threshold.")
        if lost:
            logger.warning("no queries for %s: the coarse stage never finds them.", ", ".join(lost))

    def _add(self, number: int, case: Mapping[str, Any]) -> None:
        """Group the queries of one case by organ."""
        stored, (plan, sure) = self.store.open(case), self._plan(case)
        organs: Iterable[int] = stored.annotated
        if stored.label is None:
            self._planned += len(plan)
            plan = plan[sure >= (self.unlabelled_confidence or 0.0)]
            self._sure += len(plan)
            organs = range(1, len(self.store.organs) + 1)
        elif self.present_only:
            plan = plan[sure > 0]
        for organ in organs:
            chosen = plan[plan[:, 1] == organ - 1]
            if len(chosen):
                self.groups.setdefault(organ, []).append((number, chosen))

    def _plan(self, case: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Queries of a case, and how sure it is that their organ is there: 0 or 1 by its label, else by its maps.

        They are kept beside the maps: planning reads all maps and labels, which takes minutes for thousands of cases.
        """
        stored, maps, path = self.store.open(case), self.maps.of(case), self.maps.file(case)
        state, kept = path.stat(), path.with_suffix(".plan.npz")
        of_maps = [state.st_ino, state.st_size, state.st_mtime_ns]
        key = json.dumps([of_maps, str(self.store.folder(case)), repr(self.planner)])
        with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(kept) as found:
            if str(found["key"]) == key:
                return torch.from_numpy(found["plan"]), torch.from_numpy(found["sure"])
        probability = maps.float() / 255
        plan = self.planner(probability, stored.image.shape[1], stored.image.shape[2])
        if stored.label is None:
            sure = map_confidence(probability, self.planner.threshold)[plan[:, 0], plan[:, 1]]
        else:
            sure = organs_in_slices(stored.label, len(self.store.organs))[plan[:, 0], plan[:, 1] + 1].float()
        with replacing(kept) as temporary:
            np.savez(temporary, key=key, plan=plan.numpy(), sure=sure.numpy())
        return plan, sure

    def draw(self, count: int, generator: torch.Generator) -> list[Query]:
        """Draw queries: organs in turn from a random start, then a case, then a window, each with equal chance."""
        drawn = []
        for number, organ in enumerate(in_turns(sorted(self.groups), count, generator)):
            group = self.groups[organ]
            case, plan = group[int(torch.randint(len(group), (1,), generator=generator))]
            z, _, x, y = plan[int(torch.randint(len(plan), (1,), generator=generator))].tolist()
            drawn.append(Query(case, organ, z, x, y, number))
        return drawn
