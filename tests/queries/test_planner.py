"""The planner: from coarse maps to (slice, organ, window), worked by hand and as properties."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scripts.queries.planner import QueryPlanner, organ_boxes, window_corners


def maps_with(shape: tuple[int, int, int, int], *hits: tuple[int, int, int, int]) -> Tensor:
    """Maps [slice, organ, x, y] of zeros with probability .9 at the given places."""
    maps = torch.zeros(shape)
    for hit in hits:
        maps[hit] = 0.9
    return maps


def test_the_box_of_an_organ_spans_its_pixels_along_both_axes() -> None:
    # x . . .      organ 1 of slice 0, 3 x 4 pixels (x down, y right): x from 0 to 1, y from 0 to 2.
    # . . x .
    # . . . .
    indices, boxes = organ_boxes(maps_with((2, 2, 3, 4), (0, 1, 0, 0), (0, 1, 1, 2)), threshold=0.5, margin_slices=0)
    assert indices.tolist() == [[0, 1]]
    assert boxes.tolist() == [[0, 1, 0, 2]]


def test_a_pixel_at_the_threshold_counts() -> None:
    maps = torch.full((1, 1, 2, 2), 0.3)
    assert len(organ_boxes(maps, 0.3, 0)[0]) == 1
    assert len(organ_boxes(maps, 0.31, 0)[0]) == 0


def test_slices_above_and_below_are_asked_with_the_box_of_their_neighbours() -> None:
    maps = maps_with((7, 1, 5, 6), (2, 0, 1, 4), (4, 0, 3, 2))
    indices, boxes = organ_boxes(maps, 0.5, margin_slices=1)
    assert indices[:, 0].tolist() == [1, 2, 3, 4, 5]
    # Slices 1 and 2 see slice 2, slices 4 and 5 see slice 4, slice 3 sees both.
    assert boxes.tolist() == [[1, 1, 4, 4], [1, 1, 4, 4], [1, 3, 2, 4], [3, 3, 2, 2], [3, 3, 2, 2]]


def test_the_margin_ends_with_the_volume() -> None:
    assert organ_boxes(maps_with((3, 1, 2, 2), (0, 0, 0, 0)), 0.5, margin_slices=5)[0][:, 0].tolist() == [0, 1, 2]


def test_a_small_organ_gets_one_window_in_the_middle() -> None:
    # A 2 x 2 mm map on 4 x 4 mm pixels: map pixel (20, 30) covers pixels 40-41 and 60-61, whose centre is the edge
    # between pixel 40 and 41: a window of 32 begins 16 pixels before it.
    planner = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=0, pad=0)
    queries = planner(maps_with((4, 2, 50, 80), (3, 1, 20, 30)), 100, 160)
    assert queries.tolist() == [[3, 1, 41 - 16, 61 - 16]]


def test_the_two_image_axes_are_not_confused() -> None:
    # Twice as many pixels as map pixels along x, three times as many along y.
    planner = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=0, pad=0)
    queries = planner(maps_with((1, 1, 60, 40), (0, 0, 50, 10)), 120, 120)
    assert queries.tolist() == [[0, 0, 101 - 16, int(31.5 - 16 + 0.5)]]


def test_a_large_organ_gets_several_windows_in_both_directions() -> None:
    # 80 x 44 pixels in windows of 32 that overlap by 8 or more: along x ceil(48 / 24) + 1 = 3 windows, 24 apart;
    # along y ceil(12 / 24) + 1 = 2 windows, 12 apart.
    maps = torch.zeros(1, 1, 100, 100)
    maps[0, 0, 10:90, 20:64] = 1
    planner = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=0, overlap=0.25, pad=0)
    corners = planner(maps, 100, 100)[:, 2:].tolist()
    assert corners == [[10, 20], [34, 20], [58, 20], [10, 32], [34, 32], [58, 32]]


def test_windows_stay_inside_the_slice() -> None:
    planner = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=0, pad=8)
    corner = planner(maps_with((1, 1, 50, 40), (0, 0, 0, 39)), 50, 40)
    assert corner.tolist() == [[0, 0, 0, 8]]


def test_an_organ_across_the_whole_slice_is_not_asked_twice_for_its_padding() -> None:
    planner = QueryPlanner(patch_size=48, threshold=0.5, margin_slices=0, pad=8)
    assert planner(torch.ones(1, 1, 48, 48), 48, 48).tolist() == [[0, 0, 0, 0]]


def test_a_slice_smaller_than_the_patch_is_asked_once_from_its_first_pixel() -> None:
    planner = QueryPlanner(patch_size=64, threshold=0.5, margin_slices=0)
    assert planner(torch.ones(1, 1, 10, 20), 20, 40).tolist() == [[0, 0, 0, 0]]


def test_queries_come_in_the_order_of_slices_and_organs() -> None:
    maps = maps_with((3, 3, 4, 4), (2, 0, 1, 1), (0, 2, 1, 1), (0, 1, 1, 1))
    planner = QueryPlanner(patch_size=32, threshold=0.5, margin_slices=0)
    assert planner(maps, 64, 64)[:, :2].tolist() == [[0, 1], [0, 2], [2, 0]]


def test_nothing_found_is_nothing_asked() -> None:
    queries = QueryPlanner(patch_size=32)(torch.zeros(3, 2, 8, 8), 32, 32)
    assert queries.shape == (0, 4) and queries.dtype == torch.int64


@given(
    seed=st.integers(0, 2**20),
    map_size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    factor=st.tuples(st.floats(1.0, 4.0), st.floats(1.0, 4.0)),
    margin=st.integers(0, 2),
    pad=st.integers(0, 6),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)
def test_every_pixel_of_a_coarse_organ_lies_in_a_window(
    seed: int, map_size: tuple[int, int], factor: tuple[float, float], margin: int, pad: int, overlap: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(4, 2, *map_size, generator=generator) > 0.97).float()
    shape = [max(1, round(n * f)) for n, f in zip(map_size, factor, strict=True)]
    planner = QueryPlanner(32, 0.5, margin, overlap, pad)
    queries = planner(maps, *shape)
    covered = torch.zeros(4, 2, *shape, dtype=torch.bool)
    for z, organ, x, y in queries.tolist():
        # Inside the slice, or at its beginning where the slice is the smaller one.
        assert 0 <= x <= max(shape[0] - 32, 0) and 0 <= y <= max(shape[1] - 32, 0)
        covered[z, organ, x : x + 32, y : y + 32] = True
    nearest = torch.nn.functional.interpolate(maps, size=shape, mode="nearest-exact") > 0.5
    assert not bool((nearest & ~covered).any())
    assert len(queries.unique(dim=0)) == len(queries), "no window is asked twice"


@given(st.integers(0, 50), st.integers(1, 300), st.sampled_from([32, 48]), st.sampled_from([0.0, 0.25, 0.5]))
def test_neighbouring_windows_overlap_as_demanded_and_are_as_few_as_possible(
    low: int, length: int, patch: int, overlap: float
) -> None:
    interval = torch.tensor([float(low)]), torch.tensor([float(low + length)])
    count, walk = window_corners(*interval, patch, overlap, size=400)
    corners = [round(float(walk[0, 0] + n * walk[0, 1])) for n in range(int(count))]
    assert corners[0] <= low and corners[-1] + patch >= low + length
    stride = int(patch * (1 - overlap))
    assert all(after - before <= stride for before, after in pairwise(corners))
    assert len(corners) == 1 or patch + (len(corners) - 2) * stride < length, "one window fewer would not do"


def test_the_same_plan_comes_out_of_torchscript() -> None:
    maps = torch.rand(5, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    planner = QueryPlanner(patch_size=32, threshold=0.9)
    assert torch.equal(torch.jit.script(planner)(maps, 70, 50), planner(maps, 70, 50))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 100}, "patch_size 100 does not fit the encoder: give a multiple of 16"),
        ({"patch_size": 16}, "at least 32"),
        ({"threshold": 0.0}, "query threshold 0.0 is not a probability"),
        ({"overlap": 1.0}, r"overlap 1.0 is not in \[0, 1\)"),
        ({"margin_slices": -1}, "margin_slices -1"),
        ({"pad": -1}, "pad -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QueryPlanner(**settings)  # type: ignore[arg-type]
