"""The index: which queries training may draw, and how often."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scan import coarse_maps_of, known_maps, stored, two_organs
from torch import Tensor

from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.index import QueryIndex, map_confidence, organs_in_slices
from scripts.queries.planner import QueryPlanner

PLANNER = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=1, pad=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def known_case(folder: Path, **changes: Any) -> tuple[list[dict[str, Any]], CoarseMaps]:
    """The scan of two organs with coarse maps that are right."""
    case, store = stored(folder, two_organs(), **changes)
    return [case], known_maps(folder, store, {"x": coarse_maps_of(two_organs(), 2, (22, 14))})


def asked(index: QueryIndex) -> dict[int, set[int]]:
    """The slices in which each organ is asked for."""
    return {organ: {int(z) for _, plan in group for z in plan[:, 0]} for organ, group in index.groups.items()}


def test_the_organs_of_every_slice_are_listed() -> None:
    label = torch.zeros(2, 3, 3, dtype=torch.uint8)
    label[1, 0, 0], label[1, 2, 2], label[0, 1, 1] = 2, 1, 7
    assert organs_in_slices(label, organs=2).tolist() == [[True, False, False], [True, True, True]]


def test_training_may_draw_what_inference_would_ask_and_nothing_else(tmp_path: Path) -> None:
    cases, maps = known_case(tmp_path)
    index = QueryIndex(cases, maps, PLANNER)
    plan = PLANNER(maps.of(cases[0]).float() / 255, 44, 28)
    assert torch.equal(torch.cat([group[0][1] for _, group in sorted(index.groups.items())]), _by_organ(plan))
    # The spleen reaches from slice 0 to 2, the liver from 1 to 4; a slice of margin on either side.
    assert asked(index) == {1: {0, 1, 2, 3}, 2: {0, 1, 2, 3, 4, 5}}


def _by_organ(plan: Tensor) -> Tensor:
    return torch.cat([plan[plan[:, 1] == organ] for organ in (0, 1)])


def test_the_contrastive_stage_draws_only_slices_that_show_the_organ(tmp_path: Path) -> None:
    cases, maps = known_case(tmp_path)
    assert asked(QueryIndex(cases, maps, PLANNER, present_only=True)) == {1: {0, 1, 2}, 2: {1, 2, 3, 4}}


def test_an_organ_that_was_not_contoured_is_not_asked_for(tmp_path: Path) -> None:
    cases, maps = known_case(tmp_path, annotated=["liver"])
    assert set(QueryIndex(cases, maps, PLANNER).groups) == {2}


def test_an_organ_that_the_coarse_stage_never_finds_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case, store = stored(tmp_path, two_organs())
    found = coarse_maps_of(two_organs(), 2, (22, 14))
    found[:, 0] = 0
    with caplog.at_level(logging.WARNING):
        QueryIndex([case], known_maps(tmp_path, store, {"x": found}), PLANNER)
    assert "no queries for spleen" in caplog.text


def test_a_coarse_stage_that_finds_nothing_stops_the_training_with_a_remedy(tmp_path: Path) -> None:
    case, store = stored(tmp_path, two_organs())
    maps = known_maps(tmp_path, store, {"x": torch.zeros(6, 2, 22, 14)})
    with pytest.raises(ValueError, match="Train it longer .* or lower the planner's threshold"):
        QueryIndex([case], maps, PLANNER)


def test_an_unlabelled_case_is_never_drawn(tmp_path: Path) -> None:
    cases, maps = known_case(tmp_path)
    unlabelled = {key: value for key, value in cases[0].items() if key != "label"}
    index = QueryIndex([unlabelled, *cases], maps, PLANNER)
    assert {query.case for query in index.draw(50, seeded())} == {1}


def test_organs_take_turns_whatever_their_size(tmp_path: Path) -> None:
    cases, maps = known_case(tmp_path)
    index = QueryIndex(cases, maps, PLANNER)
    assert len(index.groups[2][0][1]) > len(index.groups[1][0][1])
    assert Counter(query.organ for query in index.draw(10, seeded())) == {1: 5, 2: 5}


def test_cases_are_drawn_with_equal_chance_whatever_their_number_of_slices(tmp_path: Path) -> None:
    thin, (few, store) = two_organs(), stored(tmp_path, two_organs(), name="few")
    thin[:, :, 1:] = 0
    many, _ = stored(tmp_path, thin, name="many")
    maps = {name: coarse_maps_of(label, 2, (22, 14)) for name, label in (("few", two_organs()), ("many", thin))}
    index = QueryIndex([few, many], known_maps(tmp_path, store, maps), PLANNER)
    drawn = Counter(query.case for query in index.draw(400, seeded()) if query.organ == 1)
    assert drawn[0] + drawn[1] == 200 and 70 < drawn[0] < 130


def test_the_same_seed_draws_the_same_queries_each_with_a_number_of_its_own(tmp_path: Path) -> None:
    index = QueryIndex(*known_case(tmp_path), PLANNER)
    assert index.draw(16, seeded(3)) == index.draw(16, seeded(3))
    assert index.draw(16, seeded(3)) != index.draw(16, seeded(4))
    assert [query.number for query in index.draw(16, seeded())] == list(range(16))


def test_the_confidence_of_a_map_is_its_mean_where_it_reaches_the_threshold() -> None:
    maps = torch.tensor([[[[0.1, 0.5, 0.9]], [[0.0, 0.1, 0.2]]]])
    torch.testing.assert_close(map_confidence(maps, 0.3), torch.tensor([[0.7, 0.0]]))


def with_unlabelled(folder: Path, sureness: list[float]) -> tuple[list[dict[str, Any]], CoarseMaps]:
    """The known case and an unlabelled scan of the same organs, whose maps reach these values in its slices."""
    cases, _ = known_case(folder)
    unlabelled, store = stored(folder, two_organs(), name="u")
    del unlabelled["label"]
    right = coarse_maps_of(two_organs(), 2, (22, 14))
    doubtful = right * torch.tensor(sureness)[:, None, None, None]
    return [*cases, {**unlabelled, "annotated": []}], known_maps(folder, store, {"x": right, "u": doubtful})


def test_an_unlabelled_scan_is_asked_where_its_coarse_map_is_sure(tmp_path: Path) -> None:
    cases, maps = with_unlabelled(tmp_path, [1.0, 1.0, 0.6, 0.6, 1.0, 1.0])
    index = QueryIndex(cases, maps, PLANNER, present_only=True, unlabelled_confidence=0.8)
    of_unlabelled = {
        organ: {int(z) for number, plan in group for z in plan[:, 0] if number == 1}
        for organ, group in index.groups.items()
    }
    # The spleen's map is in slices 0 to 2, the liver's in 1 to 4; margins and doubtful slices are left out.
    assert of_unlabelled == {1: {0, 1}, 2: {1, 4}}
    assert asked(QueryIndex(cases[:1], maps, PLANNER, present_only=True)) == {1: {0, 1, 2}, 2: {1, 2, 3, 4}}


def test_without_a_confidence_unlabelled_scans_are_left_out(tmp_path: Path) -> None:
    cases, maps = with_unlabelled(tmp_path, [1.0] * 6)
    index = QueryIndex(cases, maps, PLANNER)
    assert {number for group in index.groups.values() for number, _ in group} == {0}


@pytest.mark.parametrize("confidence", [0.0, -1.0, 1.1])
def test_a_confidence_that_is_no_probability_is_refused(tmp_path: Path, confidence: float) -> None:
    cases, maps = known_case(tmp_path)
    with pytest.raises(ValueError, match="is no probability: give one such as 0.7"):
        QueryIndex(cases, maps, PLANNER, unlabelled_confidence=confidence)


def test_a_plan_is_made_once_and_anew_when_maps_label_or_planner_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, maps = known_case(tmp_path)
    planned: list[float] = []
    plan = QueryPlanner.forward

    def counted(self: QueryPlanner, *arguments: Any) -> Tensor:
        planned.append(self.pad)
        return plan(self, *arguments)

    monkeypatch.setattr(QueryPlanner, "forward", counted)

    def drawn(planner: QueryPlanner = PLANNER, present_only: bool = True) -> dict[int, set[int]]:
        return asked(QueryIndex(cases, maps, planner, present_only))

    assert drawn() == drawn() == {1: {0, 1, 2}, 2: {1, 2, 3, 4}}
    assert drawn(present_only=False) == {1: {0, 1, 2, 3}, 2: {0, 1, 2, 3, 4, 5}} and planned == [0]
    maps.keep(cases[0], maps.of(cases[0]).flip(0))
    flipped = drawn(present_only=False)
    assert flipped != {1: {0, 1, 2, 3}, 2: {0, 1, 2, 3, 4, 5}} and planned == [0, 0]
    drawn(QueryPlanner(patch_size=32, threshold=0.5, margin_slices=1, pad=2))
    assert planned == [0, 0, 2]
    os.utime(cases[0]["label"])
    assert drawn(present_only=False) == flipped and planned == [0, 0, 2, 0]
    maps.file(cases[0]).with_suffix(".plan.npz").write_bytes(b"cut off")
    assert drawn(present_only=False) == flipped and planned == [0, 0, 2, 0, 0]
