"""Background contrast: an organ's attention, moved beside the organ, is a hard negative of one class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from scripts.queries.batches import QueryBatches
from scripts.queries.index import Query

Step = tuple[int, int]  # a move of a map along x and y, in its pixels
DIRECTIONS = 16  # in which a map may be moved, evenly around the circle
MARGIN = 1  # pixels of the coarse map between the organ and its moved map
FREE = 0.5  # share of the organ's map that has to fall on free pixels


@dataclass(frozen=True)
class BackgroundQuery(Query):
    """A query of the class behind the organs, with the map of the organ `source` moved by `beside`."""

    source: int = 0
    beside: Step = (0, 0)


class BackgroundBatches(QueryBatches):
    """Query batches in which the last queries are background, each beside the organ of another query.

    A share of 0 to 0.5 of the queries is background. Their `organ` is the number of organs + 1; their label marks what
    is no organ. Without room they stay organs'.
    """

    def __init__(self, background_share: float, **settings: Any) -> None:
        super().__init__(**settings)
        if not 0 <= background_share <= 0.5:
            raise ValueError(f"background_share {background_share} is not between 0 and 0.5: each needs an organ.")
        self.background_share = background_share

    def _draw(self, generator: torch.Generator) -> list[Query]:
        drawn, count = super()._draw(generator), round(self.background_share * self.batch_size)
        organs, spare = drawn[: len(drawn) - count], drawn[len(drawn) - count :]
        beside: list[Query] = []
        for query in organs:
            step = self._step(query, generator) if len(beside) < count else None
            if step is not None:
                background = {"organ": len(self.store.organs) + 1, "number": spare[len(beside)].number}
                beside.append(BackgroundQuery(**{**asdict(query), **background}, source=query.organ, beside=step))
        return organs + beside + spare[len(beside) :]

    def _step(self, query: Query, generator: torch.Generator) -> Step | None:
        """A move of the organ's map onto background within the query's window, if there is room."""
        maps, channels = self.maps.of(self.data[query.case])[query.slice], self.store.channels
        slices = self._stored[query.case].image[query.slice * channels : (query.slice + 1) * channels]
        bright, classes = slices.float().mean(dim=0) > self.lower, self._label(query)[0]
        free = free_pixels(maps, classes, bright, self.planner.threshold)
        window = map_window(query, self.planner.patch_size, classes.shape, maps.shape[1:])
        return step_beside(maps[query.organ - 1][window], free[window], self.planner.threshold, generator)

    def _shown(self, query: Query) -> int:
        return 0 if isinstance(query, BackgroundQuery) else query.organ

    def _map(self, query: Query) -> Tensor:
        if not isinstance(query, BackgroundQuery):
            return super()._map(query)
        maps = self.maps.of(self.data[query.case])[query.slice]
        found = maps.amax(dim=0) >= self.planner.threshold * 255
        return moved(maps[query.source - 1], query.beside).masked_fill(found, 0)[None]

    def _cut(self, queries: Sequence[Query], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        image, attention, label = super()._cut(queries, generator)
        beside = [n for n, query in enumerate(queries) if isinstance(query, BackgroundQuery)]
        attention[beside] = attention[beside] * (label[beside] == 1)  # no pixel of any organ
        return image, attention, label


def free_pixels(maps: Tensor, classes: Tensor, bright: Tensor, threshold: float) -> Tensor:
    """Pixels of coarse maps [organ, x', y'] without an organ, by label [x, y] and maps, most of them bright [x, y]."""
    fine = torch.stack([classes > 0, bright]).float()
    taken, share = interpolate(fine[None], size=list(maps.shape[1:]), mode="area")[0]
    return (maps.amax(dim=0) < threshold * 255).logical_and(taken == 0).logical_and(share > 0.5)


def map_window(query: Query, size: int, pixels: Sequence[int], map_pixels: Sequence[int]) -> tuple[slice, ...]:
    """Pixels of a map [x', y'] that the window of a query covers, of `size` pixels of the slice [x, y]."""
    places = zip((query.x, query.y), [m / p for m, p in zip(map_pixels, pixels, strict=True)], strict=True)
    return tuple(slice(math.floor(first * ratio), math.ceil((first + size) * ratio)) for first, ratio in places)


def moved(pixels: Tensor, step: Step) -> Tensor:
    """A map [x', y'] moved by whole pixels; 0 comes in from outside. Example: 1, 2, 3 moved by one is 0, 1, 2."""
    x, y = (max(-size, min(size, move)) for size, move in zip(pixels.shape, step, strict=True))
    return pad(pixels, [y, -y, x, -x])


def steps_beside(organ: Tensor) -> list[Step]:
    """Shortest moves after which the box around an organ [x', y'] bool and the moved box are MARGIN pixels apart."""
    extent = [int(line[-1] - line[0]) + 1 + MARGIN for line in (torch.nonzero(organ.any(dim=n))[:, 0] for n in (1, 0))]
    angles = [2 * math.pi * number / DIRECTIONS for number in range(DIRECTIONS)]
    ways = [(math.cos(angle), math.sin(angle)) for angle in angles]
    reach = [min(size / max(abs(part), 1e-6) for size, part in zip(extent, way, strict=True)) for way in ways]
    return [(round(far * x), round(far * y)) for far, (x, y) in zip(reach, ways, strict=True)]


def step_beside(own: Tensor, free: Tensor, threshold: float, generator: torch.Generator) -> Step | None:
    """Draw a move of an organ's map [x', y'] uint8 onto pixels that are free [x', y'] bool; None without room."""
    organ = own >= threshold * 255
    order: list[int] = torch.randperm(DIRECTIONS, generator=generator).tolist()  # always drawn: the same count
    steps = steps_beside(organ) if bool(organ.any()) else []
    fitting = (n for n in order if steps and int((moved(organ, steps[n]) & free).sum()) >= FREE * int(organ.sum()))
    return next((steps[number] for number in fitting), None)
