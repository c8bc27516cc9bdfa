"""Coarse recall, worked by hand: what the coarse stage misses nothing after it brings back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_scan import coarse_maps_of, known_maps, stored, two_organs

from scripts.coarse.recall import coarse_recall, recall_table


def test_a_missed_organ_and_a_half_reached_one_are_reported(tmp_path: Path) -> None:
    # Case x: the spleen's map is empty, of the four liver slices the map reaches the first two. Case y: all is found.
    (x, store), (y, _) = stored(tmp_path, two_organs(), "x"), stored(tmp_path, two_organs(), "y")
    right = coarse_maps_of(two_organs(), 2, (22, 14))
    wrong = right.clone()
    wrong[:, 0] = 0
    wrong[3:, 1] = 0
    report = coarse_recall([x, y], known_maps(tmp_path, store, {"x": wrong, "y": right}), threshold=0.3)
    spleen, liver = report["spleen"], report["liver"]
    assert (spleen["cases"], spleen["missed"], spleen["missed_cases"]) == (2, 1, ["x"])
    assert (liver["cases"], liver["missed"], liver["missed_cases"]) == (2, 0, [])
    assert spleen["slices_reached"] == 3 / 6 and liver["slices_reached"] == 6 / 8
    # Of the spleen nothing in x and all in y; of the liver half in x, whose Dice is 2 x .5 / (.5 + 1).
    assert spleen["dice"] == pytest.approx(0.5, abs=0.01)
    assert liver["dice"] == pytest.approx((2 / 3 + 1) / 2, abs=0.02)


def test_a_map_that_says_here_everywhere_reaches_every_slice_and_has_no_dice(tmp_path: Path) -> None:
    case, store = stored(tmp_path, two_organs())
    report = coarse_recall([case], known_maps(tmp_path, store, {"x": torch.ones(6, 2, 22, 14)}), threshold=0.3)
    assert report["spleen"]["slices_reached"] == 1
    volume = float((two_organs() == 1).mean())
    assert report["spleen"]["dice"] == pytest.approx(2 * volume / (1 + volume), rel=1e-3)
    assert volume < 0.1


def test_a_map_beside_the_organ_does_not_reach_it(tmp_path: Path) -> None:
    case, store = stored(tmp_path, two_organs())
    beside = coarse_maps_of(two_organs(), 2, (44, 28)).flip(2)
    report = coarse_recall([case], known_maps(tmp_path, store, {"x": beside}), threshold=0.3)
    assert report["spleen"]["missed_cases"] == ["x"]


def test_a_pixel_reaches_the_organ_from_the_threshold_on(tmp_path: Path) -> None:
    case, store = stored(tmp_path, two_organs())
    maps = known_maps(tmp_path, store, {"x": torch.full((6, 2, 22, 14), 0.4)})
    assert coarse_recall([case], maps, threshold=0.4)["spleen"]["missed"] == 0
    assert coarse_recall([case], maps, threshold=0.41)["spleen"]["missed"] == 1


def test_an_organ_that_no_case_shows_has_no_recall(tmp_path: Path) -> None:
    case, store = stored(tmp_path, two_organs(), annotated=["liver"])
    maps = known_maps(tmp_path, store, {"x": coarse_maps_of(two_organs(), 2, (22, 14))})
    unlabelled = {key: value for key, value in case.items() if key != "label"}
    report = coarse_recall([case, unlabelled], maps, threshold=0.3)
    assert report["spleen"]["cases"] == 0 and math.isnan(float(str(report["spleen"]["slices_reached"])))
    assert report["liver"]["cases"] == 1


def test_the_table_has_a_line_for_every_organ() -> None:
    row = {"cases": 4, "missed": 1, "missed_cases": ["x"], "slices_reached": 0.875, "dice": 0.5}
    assert recall_table({"spleen": row}).splitlines() == [
        "organ                        cases  missed  slices reached    Dice",
        "spleen                           4       1           87.5%    0.50",
    ]


def test_a_patient_without_the_organ_is_no_miss(tmp_path: Path) -> None:
    label = two_organs()
    label[label == 1] = 0
    case, store = stored(tmp_path, label)
    maps = known_maps(tmp_path, store, {"x": coarse_maps_of(label, 2, (22, 14))})
    report = coarse_recall([case], maps, threshold=0.3)
    assert (report["spleen"]["cases"], report["spleen"]["missed"]) == (0, 0)
