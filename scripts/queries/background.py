"""Background queries: an organ's attention moved beside the organ, as hard negatives of the same image.

The moved map keeps its form, so that a network cannot tell an organ's query from a background query by the attention
alone: it has to look at the image below. All background is one class (our choice): a class for each organ would be read
off the form of the map, and what the segmentation stage asks is organ or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from scripts.queries.index import Query
from scripts.queries.planner import QueryPlanner

Step = tuple[int, int]
"""A move of a map along x and y, in its pixels."""

DIRECTIONS = 16
"""Ways in which a map is tried to be moved, evenly around the circle."""

MARGIN = 1
"""Pixels of the coarse map that are left free between the organ and its moved map."""

FREE = 0.5
"""Share of the organ's map that has to fall on free pixels."""


def free_pixels(maps: Tensor, classes: Tensor, bright: Tensor, threshold: float) -> Tensor:
    """Where background may be asked for, on the grid of the maps [x', y'] bool.

    There neither the label nor the coarse stage has an organ, and most of the pixel is bright: air and lung would be no
    hard negatives.

    Args:
        maps: coarse maps of the slice [organ, x', y'] uint8, 255 for probability 1.
        classes: label of the slice [x, y] uint8; all 0 in an unlabelled scan.
        bright: where the slice exceeds the window's lower end [x, y] bool.
        threshold: coarse probability from which a pixel may be the organ's.
    """
    fine = torch.stack([classes > 0, bright]).float()
    taken, share = interpolate(fine[None], size=list(maps.shape[1:]), mode="area")[0]
    free: Tensor = (maps.amax(dim=0) < threshold * 255) & (taken == 0) & (share > 0.5)
    return free


def map_window(query: Query, size: int, pixels: Sequence[int], map_pixels: Sequence[int]) -> tuple[slice, slice]:
    """The pixels of a map [x', y'] that the window of a query covers, of `size` pixels of the slice [x, y]."""
    window = []
    for first, whole, of_map in zip((query.x, query.y), pixels, map_pixels, strict=True):
        ratio = of_map / whole
        window.append(slice(math.floor(first * ratio), math.ceil((first + size) * ratio)))
    return window[0], window[1]


def moved(pixels: Tensor, step_x: int, step_y: int) -> Tensor:
    """A map [x', y'] moved by whole pixels; what comes in from outside is 0.

    Example: the row 1, 2, 3 moved by one pixel is 0, 1, 2.
    """
    result = torch.zeros_like(pixels)
    size_x, size_y = pixels.shape
    to_x, to_y = slice(max(step_x, 0), size_x + min(step_x, 0)), slice(max(step_y, 0), size_y + min(step_y, 0))
    of_x, of_y = slice(max(-step_x, 0), size_x - max(step_x, 0)), slice(max(-step_y, 0), size_y - max(step_y, 0))
    if abs(step_x) < size_x and abs(step_y) < size_y:
        result[to_x, to_y] = pixels[of_x, of_y]
    return result


def steps_beside(organ: Tensor) -> list[Step]:
    """Shortest moves after which the box around an organ [x', y'] bool and the moved box lie MARGIN pixels apart."""
    extent = [int(line[-1] - line[0]) + 1 + MARGIN for line in (torch.nonzero(organ.any(dim=n))[:, 0] for n in (1, 0))]
    steps = []
    for number in range(DIRECTIONS):
        angle = 2 * math.pi * number / DIRECTIONS
        along_x, along_y = math.cos(angle), math.sin(angle)
        reach = min(size / max(abs(part), 1e-6) for size, part in zip(extent, (along_x, along_y), strict=True))
        steps.append((round(reach * along_x), round(reach * along_y)))
    return steps


def step_beside(own: Tensor, free: Tensor, threshold: float, generator: torch.Generator) -> Step | None:
    """Draw a move of an organ's map that brings it onto free pixels, or None where there is no room.

    Args:
        own: the organ's map within the window [x', y'] uint8.
        free: see :func:`free_pixels`, within the same window.
        threshold: coarse probability from which a pixel is the organ's.
        generator: random numbers.
    """
    organ = own >= threshold * 255
    order: list[int] = torch.randperm(
        DIRECTIONS, generator=generator
    ).tolist()  # drawn first: room or not, the same count
    if not bool(organ.any()):
        return None
    steps: list[Step] = steps_beside(organ)
    total = int(organ.sum())
    for number in order:
        if int((moved(organ, *steps[number]) & free).sum()) >= FREE * total:
            return steps[number]
    return None


def step_in_window(
    query: Query, maps: Tensor, classes: Tensor, bright: Tensor, planner: QueryPlanner, generator: torch.Generator
) -> Step | None:
    """Draw a move that brings the map of a query's organ onto background within its window, if there is room.

    Args:
        query: the organ's.
        maps: see :func:`free_pixels`, as are classes and bright.
        classes: label of the slice.
        bright: what is no air.
        planner: size of the window, and the coarse probability from which a pixel is the organ's.
        generator: random numbers.
    """
    free = free_pixels(maps, classes, bright, planner.threshold)
    window = map_window(query, planner.patch_size, classes.shape, maps.shape[1:])
    return step_beside(maps[query.organ - 1][window], free[window], planner.threshold, generator)


def map_beside(maps: Tensor, organ: int, step: Step, threshold: float) -> Tensor:
    """The organ's map moved, and 0 where the coarse stage has any organ: [1, x', y'] uint8.

    Args:
        maps: coarse maps of the slice [organ, x', y'] uint8.
        organ: class index.
        step: pixels of the map along x and y.
        threshold: coarse probability from which a pixel may be an organ's.
    """
    beside = moved(maps[organ - 1], *step)
    return beside.masked_fill(maps.amax(dim=0) >= threshold * 255, 0)[None]


def check_share(share: float) -> float:
    """The share of a batch's queries that are background.

    Raises:
        ValueError: it is not between 0 and one half: each of them belongs to an organ's query.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"background_share {share} is not between 0 and 0.5: each belongs to a query of an organ.")
    return float(share)


def with_background(queries: Sequence[Query], count: int, step_of: Callable[[Query], Step | None]) -> list[Query]:
    """Put background queries in place of the last `count` queries, each beside the organ of another query of the batch.

    Where too few organs have room beside them, the last queries stay what they are.

    Example: of queries 0, 1, 2, 3 and a count of 1 query 3 becomes that of query 0, moved.
    """
    organs, spare = list(queries[: len(queries) - count]), list(queries[len(queries) - count :])
    beside: list[Query] = []
    for query in organs:
        step = step_of(query) if len(beside) < count else None
        if step is not None:
            beside.append(replace(query, number=spare[len(beside)].number, beside=step))
    return organs + beside + spare[len(beside) :]
