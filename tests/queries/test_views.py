"""Views: what is cut where, and how a random view moves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from development.baselines.slice_batches import reach_of
from scripts.queries.views import (
    RandomGeometry,
    gather_blocks,
    sample_patches,
    slices_with_neighbours,
)

UNIT = torch.ones(1, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut(slices: Tensor, corner: tuple[int, int], size: int, matrix: Tensor | None = None, reach: int = 0) -> Tensor:
    """One patch [channel, size, size] whose first pixel is `corner`, by way of a block."""
    centre = torch.tensor([corner], dtype=torch.float32) + (size - 1) / 2
    blocks, origin = gather_blocks([slices], centre, reach or size // 2 + 1)
    return sample_patches(blocks, centre - origin, torch.eye(2)[None] if matrix is None else matrix[None], UNIT, size)[
        0
    ]


@given(
    shape=st.tuples(st.integers(3, 20), st.integers(3, 20)),
    corner=st.tuples(st.integers(-12, 22), st.integers(-12, 22)),
    size=st.sampled_from([4, 8, 10]),
)
def test_a_plain_patch_is_a_crop_padded_with_zeros_beyond_the_slice(
    shape: tuple[int, int], corner: tuple[int, int], size: int
) -> None:
    slices = torch.rand(2, *shape, generator=seeded(shape[0]))
    wide = pad(slices, [40] * 4)
    expected = wide[:, 40 + corner[0] : 40 + corner[0] + size, 40 + corner[1] : 40 + corner[1] + size]
    assert torch.allclose(cut(slices, corner, size), expected, atol=1e-5)


def test_a_block_begins_reach_minus_one_before_its_centre_and_remembers_where() -> None:
    slices = torch.arange(30).reshape(1, 5, 6)
    blocks, origins = gather_blocks([slices], torch.tensor([[2.5, 3.5]]), reach=1)
    assert origins.tolist() == [[2, 3]]
    assert blocks.tolist() == [[[[15, 16], [21, 22]]]]


def test_a_block_beyond_the_slice_has_zeros_or_the_outermost_pixels() -> None:
    slices = torch.tensor([[[1, 2], [3, 4]]])
    centre = torch.tensor([[-0.5, 0.5]])
    assert gather_blocks([slices], centre, reach=1)[0].tolist() == [[[[0, 0], [1, 2]]]]
    assert gather_blocks([slices], centre, reach=1, repeat_edge=True)[0].tolist() == [[[[1, 2], [1, 2]]]]
    far = torch.tensor([[50.0, -50.0]])
    assert gather_blocks([slices], far, reach=1)[0].tolist() == [[[[0, 0], [0, 0]]]]
    assert gather_blocks([slices], far, reach=1, repeat_edge=True)[0].tolist() == [[[[3, 3], [3, 3]]]]


def test_slices_of_different_sizes_may_share_a_batch() -> None:
    slices = [torch.full((1, 4, 9), 1), torch.full((1, 7, 3), 2)]
    blocks, _ = gather_blocks(slices, torch.tensor([[1.5, 1.5], [1.5, 1.5]]), reach=1)
    assert blocks.flatten(1).unique(dim=1).tolist() == [[1], [2]]


def test_neighbouring_slices_come_in_order_and_the_last_is_repeated_at_the_end() -> None:
    volume = torch.arange(5)[:, None, None].expand(5, 2, 2)
    stacks = slices_with_neighbours(volume, torch.tensor([0, 2, 4]), adjacent=2)
    assert stacks[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 4, 4]]
    assert slices_with_neighbours(volume, torch.tensor([3]), adjacent=0)[:, :, 0, 0].tolist() == [[3]]


def test_a_mirrored_view_exchanges_left_and_right_only() -> None:
    matrix, _ = RandomGeometry(zoom=[1, 1], rotation=0.0, shift=0.0, mirror=1.0)(1, seeded())
    slices = torch.rand(1, 20, 30, generator=seeded())
    assert torch.allclose(cut(slices, (5, 9), 8, matrix[0]), cut(slices, (5, 9), 8).flip(1), atol=1e-5)


def test_a_quarter_turn_of_the_view_turns_what_it_shows_the_other_way() -> None:
    slices = torch.rand(1, 20, 30, generator=seeded())
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    plain = cut(slices, (5, 9), 8)
    # Patch offset (1, 0) reads slice offset (0, 1): the axis x of the patch is the axis y of the slice.
    assert torch.allclose(cut(slices, (5, 9), 8, quarter), plain.transpose(1, 2).flip(2), atol=1e-5)


def test_a_magnified_view_shows_less() -> None:
    # A ramp of 1 per pixel along x, seen at zoom 2, rises by 1/2 per pixel about the same centre.
    ramp = torch.arange(40.0)[None, :, None].expand(1, 40, 40)
    matrix, _ = RandomGeometry(zoom=[2, 2], rotation=0.0, shift=0.0)(1, seeded())
    view = cut(ramp, (10, 10), 8, matrix[0])[0, :, 0]
    assert torch.allclose(view, 13.5 + (torch.arange(8.0) - 3.5) / 2, atol=1e-4)


def test_a_coarser_map_is_read_at_the_same_place() -> None:
    # The map is the slice averaged over 2 x 4 pixels. A linear ramp stays linear, so both patches have to agree.
    x, y = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    ramp = (x - 3 * y)[None]
    coarse = torch.nn.functional.avg_pool2d(ramp, (2, 4))
    geometry = RandomGeometry(zoom=[0.8, 1.2], rotation=40.0, shift=2.0, mirror=0.5)
    matrix, shift = geometry(16, seeded(2))
    centres = torch.tensor([[20.0, 30.0]]) + shift
    ratio = torch.tensor([[1 / 2, 1 / 4]]).expand(16, 2)
    fine_blocks, fine_origins = gather_blocks([ramp] * 16, centres, reach_of(geometry, 8))
    on_map = (centres + 0.5) * ratio - 0.5
    coarse_blocks, coarse_origins = gather_blocks([coarse] * 16, on_map, reach_of(geometry, 8))
    fine = sample_patches(fine_blocks, centres - fine_origins, matrix, torch.ones(16, 2), 8)
    from_map = sample_patches(coarse_blocks, on_map - coarse_origins, matrix, ratio, 8)
    assert torch.allclose(fine, from_map, atol=1e-3)


@given(st.integers(0, 2**20), st.floats(0.5, 1.0), st.floats(1.0, 2.0), st.floats(0, 180), st.floats(0, 20))
def test_random_geometry_stays_within_its_bounds(
    seed: int, smallest: float, largest: float, rotation: float, shift: float
) -> None:
    geometry = RandomGeometry([smallest, largest], rotation, shift, mirror=0.5)
    matrix, moved = geometry(16, seeded(seed))
    magnification = 1 / matrix.det().abs().sqrt()
    assert float(magnification.min()) >= smallest - 1e-4 and float(magnification.max()) <= largest + 1e-4
    # The second column is the image of the axis y, which is never mirrored.
    angle = torch.atan2(-matrix[:, 0, 1], matrix[:, 1, 1]).abs()
    assert float(angle.max()) <= math.radians(rotation) + 1e-4
    assert float(moved.abs().max()) <= shift
    # Matrices are similarities: both axes have one length and are at right angles.
    product = matrix.transpose(1, 2) @ matrix
    assert torch.allclose(product, product[:, :1, :1] * torch.eye(2), atol=1e-4)
    # No corner of a view of 32 pixels lies farther from the query's centre than `reach_of` allows for.
    corner = (matrix.abs().sum(dim=2) * 31 / 2 + moved.abs()).max()
    assert float(corner) <= reach_of(geometry, 32)


@pytest.mark.parametrize("zoom", [[1.2, 0.8], [0.0, 1.0], [1.0]])
def test_a_zoom_that_is_none_is_refused_with_an_example(zoom: list[float]) -> None:
    with pytest.raises(ValueError, match=r"for example \[0.8, 1.25\]"):
        RandomGeometry(zoom=zoom)
