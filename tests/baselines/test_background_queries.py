"""Variants of the batches: background queries, and many slices of few cases."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scan import coarse_maps_of, known_maps, stored, two_organs
from torch import Tensor

from development.baselines.background_queries import (
    MARGIN,
    BackgroundBatches,
    BackgroundQuery,
    free_pixels,
    map_window,
    moved,
    step_beside,
    steps_beside,
)
from development.baselines.contrast_views import SameImageBatches, draw_from_few
from scripts.queries.attention import AttentionMap
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.index import Query, QueryIndex
from scripts.queries.planner import QueryPlanner


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_map_is_moved_by_whole_pixels_and_nothing_comes_in_from_outside() -> None:
    pixels = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert moved(pixels, (0, 1)).tolist() == [[0, 1, 2], [0, 4, 5]]
    assert moved(pixels, (-1, -1)).tolist() == [[5, 6, 0], [0, 0, 0]]
    assert moved(pixels, (2, 0)).sum() == 0 and torch.equal(moved(pixels, (0, 0)), pixels)


def test_every_move_brings_the_map_past_the_organ_with_a_margin_and_no_farther_than_needed() -> None:
    organ = torch.zeros(40, 40, dtype=torch.bool)
    organ[18:23, 15:24] = True  # 5 x 9
    steps = steps_beside(organ)
    assert {(5 + MARGIN, 0), (-5 - MARGIN, 0), (0, 9 + MARGIN), (0, -9 - MARGIN)} <= set(steps)
    for step in steps:
        assert not bool((moved(organ, step) & organ).any())
        assert abs(step[0]) == 5 + MARGIN or abs(step[1]) == 9 + MARGIN


def test_free_is_what_neither_label_nor_coarse_stage_gives_to_an_organ_and_is_no_air() -> None:
    maps = torch.tensor([[[0, 0, 0, 200]], [[0, 0, 100, 0]]], dtype=torch.uint8)  # two organs on 1 x 4 pixels
    classes = torch.zeros(2, 8, dtype=torch.uint8)
    classes[0, 1] = 2  # one corner of the first map pixel
    bright = torch.ones(2, 8, dtype=torch.bool)
    assert free_pixels(maps, classes, bright, threshold=0.3).tolist() == [[False, True, False, False]]
    assert free_pixels(maps, classes, bright, threshold=0.5).tolist() == [[False, True, True, False]]
    bright[:, 2:4] = False
    assert free_pixels(maps, classes, bright, threshold=0.5).tolist() == [[False, False, True, False]]


def test_the_only_free_side_is_chosen_and_without_room_there_is_no_background() -> None:
    own = torch.zeros(20, 20, dtype=torch.uint8)
    own[8:12, 8:12] = 255
    free = torch.zeros(20, 20, dtype=torch.bool)
    free[14:] = True
    chosen = {step_beside(own, free, 0.5, seeded(seed)) for seed in range(10)}
    assert len(chosen) > 1 and None not in chosen
    assert all(step is not None and step[0] == 4 + MARGIN for step in chosen)
    assert step_beside(own, ~free & False, 0.5, seeded()) is None
    assert step_beside(own & 0, free, 0.5, seeded()) is None


def test_the_moved_map_leaves_out_every_organ_of_the_coarse_stage() -> None:
    maps = torch.tensor([[[250, 200, 0, 0, 0]], [[0, 0, 0, 90, 40]]], dtype=torch.uint8)
    batches: Any = object.__new__(BackgroundBatches)
    batches.data, batches.planner = [{}], QueryPlanner(threshold=0.3)
    batches.maps = SimpleNamespace(of=lambda case: maps[None])
    query = BackgroundQuery(0, 3, 0, 0, 0, number=0, source=1, beside=(0, 3))
    assert batches._map(query).tolist() == [[[0, 0, 0, 0, 200]]]  # 90 is above 0.3 x 255, 40 below


def test_the_window_of_a_query_on_a_map_of_other_pixels() -> None:
    window = map_window(Query(0, 1, 0, x=10, y=9, number=0), 32, (44, 28), (22, 9))
    assert window == (slice(5, 21), slice(2, 14))


def organs_with_room() -> Any:
    label = np.zeros((64, 64, 4), np.uint8)
    label[14:22, 28:34] = 1
    label[40:46, 26:36] = 2
    return label


def batches_of(folder: Path, share: float, **changes: Any) -> BackgroundBatches:
    label = organs_with_room()
    case, store = stored(folder, label, image=np.where(label > 0, 300, 50).astype(np.int16), **changes)
    maps = known_maps(folder, store, {"x": coarse_maps_of(label, 2, (32, 32))})
    return made_of(case, maps, share, views=2)


def made_of(case: dict[str, Any], maps: CoarseMaps, share: float, **settings: Any) -> BackgroundBatches:
    planner = QueryPlanner(patch_size=48, threshold=0.3, margin_slices=0, pad=2)
    fixed: dict[str, Any] = {"maps": maps, "planner": planner, "attention": AttentionMap(), "batch_size": 16}
    return BackgroundBatches(share, data=[case], **fixed, **settings)


def test_background_queries_take_the_place_and_number_of_the_last_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(tmp_path, 0.25)
    drawn = batches.index.draw(16, batches.generator(0))
    monkeypatch.setattr(batches, "_step", lambda query, _: None if query.number == 0 else (query.number, 7))
    mixed = batches._draw(batches.generator(0))
    assert mixed[:12] == drawn[:12]
    moved_queries = [
        {**asdict(drawn[n]), "organ": 3, "source": drawn[n].organ, "number": 11 + n, "beside": (n, 7)}
        for n in range(1, 5)
    ]
    assert mixed[12:] == [BackgroundQuery(**fields) for fields in moved_queries]
    monkeypatch.setattr(batches, "_step", lambda query, _: None)
    assert batches._draw(batches.generator(0)) == drawn


def test_a_share_of_the_queries_is_background_of_one_class_in_both_views(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, 0.25)
    batch = batches.batch(0, batches.generator(0))
    assert (batch["organ"] == 3).nonzero()[:, 0].tolist() == [12, 13, 14, 15, 28, 29, 30, 31]
    assert batch["query"].tolist() == list(range(16)) * 2
    assert torch.equal(batch["image"][:16], batch["image"][16:]), "no geometry: the views are the same"


def truth_under(batch: dict[str, Tensor], batches: BackgroundBatches) -> Tensor:
    """How much attention lies on either organ, of each view."""
    label = batches.store.open(batches.data[0]).label
    assert label is not None
    queries = batches._draw(batches.generator(0)) * 2
    windows = [label[q.slice, q.x : q.x + 48, q.y : q.y + 48] > 0 for q in queries]
    return (batch["image"][:, -1] * torch.stack(windows)).sum(dim=(1, 2))


def test_the_attention_of_a_background_query_lies_on_no_organ_and_has_the_organs_size(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, 0.5)
    batch = batches.batch(0, batches.generator(0))
    background, attention = batch["organ"] == 3, batch["image"][:, -1].sum(dim=(1, 2))
    assert int(background.sum()) == 16
    on_organs = truth_under(batch, batches)
    assert float(on_organs[background].max()) == 0
    assert float((on_organs / attention)[~background].min()) > 0.8
    # Half of the organ's map at least; the organs have 48 and 60 pixels.
    assert float(attention[background].min()) >= 24
    assert bool((batch["label"][background] == 1).any()), "1 is what is no organ"


def test_air_is_no_background(tmp_path: Path) -> None:
    label = organs_with_room()
    air = np.where(label > 0, 50, -1000).astype(np.int16)
    case, store = stored(tmp_path, label, image=air)
    maps = known_maps(tmp_path, store, {"x": coarse_maps_of(label, 2, (32, 32))})
    batches = made_of(case, maps, 0.5)
    assert sorted(set(batches.batch(0, batches.generator(0))["organ"].tolist())) == [1, 2]


def test_an_unlabelled_scan_has_background_where_its_coarse_maps_have_no_organ(tmp_path: Path) -> None:
    label = organs_with_room()
    case, store = stored(tmp_path, label, image=np.where(label > 0, 300, 50).astype(np.int16))
    case.pop("label")
    maps = known_maps(tmp_path, store, {"x": coarse_maps_of(label, 2, (32, 32))})
    batches = made_of(case, maps, 0.5, unlabelled_confidence=0.5)
    batch = batches.batch(0, batches.generator(0))
    assert batch["organ"].tolist().count(3) == 8
    for query, view in zip(batches._draw(batches.generator(0)), batch["image"], strict=True):
        truth = torch.from_numpy(label[query.x : query.x + 48, query.y : query.y + 48, query.slice] > 0)
        on_organ = float((view[-1] * truth).sum() / view[-1].sum())
        assert on_organ < 0.01 if isinstance(query, BackgroundQuery) else on_organ > 0.8


def test_without_a_share_the_stream_is_what_it_was(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, 0.0)
    assert batches._draw(batches.generator(3)) == batches.index.draw(16, batches.generator(3))


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_a_share_that_leaves_no_organ_for_each_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=f"background_share {share} is not between 0 and 0.5"):
        batches_of(tmp_path, share)


PLANNER = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=1, pad=0)


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


def few_cases_of(folder: Path, cases_per_batch: int) -> SameImageBatches:
    case, store = stored(folder, two_organs())
    maps = known_maps(folder, store, {"x": coarse_maps_of(two_organs(), 2, (22, 9))})
    settings: dict[str, Any] = {"planner": PLANNER, "attention": AttentionMap(), "batch_size": 16}
    return SameImageBatches(cases_per_batch, data=[case], maps=maps, **settings)


def test_batches_of_few_cases_are_drawn_as_they_should_be(tmp_path: Path) -> None:
    batches = few_cases_of(tmp_path, 1)
    batch, drawn = next(iter(batches)), draw_from_few(batches.index, 16, 1, batches.generator(0))
    assert batch["organ"].tolist() == [query.organ for query in drawn]
    assert len({query.slice for query in drawn}) <= 3
    with pytest.raises(ValueError, match="cases_per_batch 0 is no number of cases"):
        few_cases_of(tmp_path / "b", 0)
