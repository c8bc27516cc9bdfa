"""Same-image contrast: batches of few cases, and of neighbouring slices of each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scan import coarse_maps_of, known_maps, stored, two_organs

from development.baselines.same_image import SameImageBatches, draw_from_few
from scripts.queries.attention import AttentionMap
from scripts.queries.index import QueryIndex
from scripts.queries.planner import QueryPlanner

PLANNER = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=1, pad=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_three_cases(folder: Path) -> QueryIndex:
    cases = [stored(folder, two_organs(), name=name) for name in "abc"]
    maps = {name: coarse_maps_of(two_organs(), 2, (22, 14)) for name in "abc"}
    store = cases[0][1]
    return QueryIndex([case for case, _ in cases], known_maps(folder, store, maps), PLANNER, present_only=True)


def test_a_batch_of_few_cases_shows_the_organs_of_neighbouring_slices_of_each(tmp_path: Path) -> None:
    index, touching = of_three_cases(tmp_path), 0
    for seed in range(8):
        drawn = draw_from_few(index, 13, 1, seeded(seed))
        assert len(drawn) == 13 and [query.number for query in drawn] == list(range(13))
        assert len({query.case for query in drawn}) == 1
        slices = [query.slice for query in drawn]
        assert max(slices) - min(slices) <= 2
        counts = Counter(query.organ for query in drawn)
        touching += len(counts) == 2
        assert max(counts.values()) - min(counts.values()) <= 1 or len(counts) == 1
    # Only a spleen in slice 0 has no neighbour with a liver, and only from slice 4 on no spleen is near.
    assert touching >= 4


def test_the_queries_of_few_cases_are_those_that_the_index_has_and_cases_take_turns(tmp_path: Path) -> None:
    index = of_three_cases(tmp_path)
    known = {
        (case, organ, *row[[0, 2, 3]].tolist())
        for organ, group in index.groups.items()
        for case, plan in group
        for row in plan
    }
    seen = set()
    for seed in range(10):
        drawn = draw_from_few(index, 12, 3, seeded(seed))
        assert {(query.case, query.organ, query.slice, query.x, query.y) for query in drawn} <= known
        assert [query.case for query in drawn] == [query.case for query in drawn[:3]] * 4
        seen |= {query.case for query in drawn}
    assert seen == {0, 1, 2}
    assert draw_from_few(index, 12, 3, seeded(1)) == draw_from_few(index, 12, 3, seeded(1))


def test_more_cases_than_queries_are_as_many_as_there_are_queries(tmp_path: Path) -> None:
    assert len(draw_from_few(of_three_cases(tmp_path), 2, 5, seeded())) == 2


def batches_of(folder: Path, cases_per_batch: int) -> SameImageBatches:
    case, store = stored(folder, two_organs())
    maps = known_maps(folder, store, {"x": coarse_maps_of(two_organs(), 2, (22, 9))})
    settings: dict[str, Any] = {"planner": PLANNER, "attention": AttentionMap(), "batch_size": 16}
    return SameImageBatches(cases_per_batch, data=[case], maps=maps, **settings)


def test_batches_of_few_cases_are_drawn_as_they_should_be(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, 1)
    batch, drawn = next(iter(batches)), draw_from_few(batches.index, 16, 1, batches.generator(0))
    assert batch["organ"].tolist() == [query.organ for query in drawn]
    assert len({query.slice for query in drawn}) <= 3
    with pytest.raises(ValueError, match="cases_per_batch 0 is no number of cases"):
        batches_of(tmp_path / "b", 0)
