"""Attention: threshold and dilation by hand, and random faults that stay maps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scripts.queries.attention import AttentionMap, AttentionPerturbation, maps_on_slices


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*rows: str) -> Tensor:
    """A map [1, 1, x, y] from rows of digits, tenths of a probability; # is 1."""
    return torch.tensor([[10 if c == "#" else int(c) for c in row] for row in rows])[None, None].float() / 10


def test_a_map_is_kept_as_it_is_by_default() -> None:
    soft = picture("0149", "2580")
    assert torch.equal(AttentionMap()(soft), soft)


def test_a_binary_map_is_one_from_the_threshold_on() -> None:
    assert torch.equal(AttentionMap(binary=True, threshold=0.5)(picture("0459#")), picture("00###"))


def test_dilation_grows_the_map_by_so_many_pixels_on_every_side() -> None:
    grown = AttentionMap(dilation=1)(picture("00000", "00000", "00070", "00000"))
    assert torch.equal(grown, picture("00000", "00777", "00777", "00777"))


def test_a_map_is_thresholded_before_it_is_grown() -> None:
    assert torch.equal(AttentionMap(binary=True, dilation=1)(picture("00090040")), picture("00###000"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 1.0}, "threshold 1.0 is not a probability"), ({"dilation": -1}, "dilation -1 is negative")],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionMap(**settings)  # type: ignore[arg-type]


def test_coarse_maps_are_interpolated_along_the_slices_only() -> None:
    # Two coarse slices become four: their centres are at 0.5 and 2.5 on the axis of the fine ones.
    coarse = torch.stack([torch.zeros(2, 3), torch.full((2, 3), 0.8)], dim=-1)[None]
    on_slices = maps_on_slices(coarse, 4)
    assert on_slices.shape == (4, 1, 2, 3)
    assert torch.allclose(on_slices[:, 0, 1, 2], torch.tensor([0.0, 0.2, 0.6, 0.8]))


@given(st.integers(0, 2**20), st.integers(0, 3), st.floats(0, 1), st.floats(0, 1))
def test_faulty_maps_are_still_maps(seed: int, grow: int, drop_part: float, drop_all: float) -> None:
    maps = torch.rand(6, 1, 9, 9, generator=seeded(seed))
    faulty = AttentionPerturbation(2.0, grow, drop_part, drop_all)(maps, seeded(seed))
    assert faulty.shape == maps.shape
    assert float(faulty.min()) >= 0 and float(faulty.max()) <= 1


def test_maps_that_are_always_dropped_are_zero() -> None:
    maps = torch.rand(8, 1, 9, 9, generator=seeded()) + 0.1
    assert float(AttentionPerturbation(drop_all=1.0)(maps, seeded()).abs().max()) == 0


def test_no_faults_leave_the_maps_as_they_are() -> None:
    maps = torch.rand(8, 1, 9, 9, generator=seeded())
    assert torch.equal(AttentionPerturbation(0.0, 0, 0.0, 0.0)(maps, seeded()), maps)


def test_a_map_that_loses_a_part_loses_a_half_plane_and_keeps_the_rest_untouched() -> None:
    maps = torch.rand(8, 1, 33, 33, generator=seeded()) + 0.1
    faulty = AttentionPerturbation(0.0, 0, drop_part=1.0, drop_all=0.0)(maps, seeded())
    kept = faulty > 0
    assert torch.equal(faulty[kept], maps[kept])
    share = kept.float().mean(dim=(1, 2, 3))
    # The line passes within an eighth of the patch of its centre.
    assert float(share.min()) > 0.3 and float(share.max()) < 0.7
    assert len({tuple(row.flatten().tolist()) for row in kept}) == 8, "every query is cut by a line of its own"


def test_growing_takes_the_highest_neighbour_and_shrinking_the_lowest() -> None:
    middle = picture("00000", "00000", "00900", "00000", "00000").repeat(64, 1, 1, 1)
    faulty = AttentionPerturbation(0.0, grow=1, drop_part=0.0, drop_all=0.0)(middle, seeded())
    grown = picture("00000", "09990", "09990", "09990", "00000")
    outcomes = [middle[:1], grown, torch.zeros_like(grown)]
    seen = {n for each in faulty for n, outcome in enumerate(outcomes) if torch.equal(each[None], outcome)}
    assert seen == {0, 1, 2}
    assert all(any(torch.equal(each[None], outcome) for outcome in outcomes) for each in faulty)


def test_displacements_stay_within_the_largest_one_in_both_directions() -> None:
    moved = AttentionPerturbation(shift=3.0).displacements(500, seeded())
    assert moved.shape == (500, 2)
    assert float(moved.abs().max()) <= 3
    assert bool(((moved.amin(0) < -2) & (moved.amax(0) > 2)).all())


def test_the_same_seed_makes_the_same_faults() -> None:
    maps, fault = torch.rand(8, 1, 9, 9, generator=seeded()), AttentionPerturbation(2.0, 2, 0.5, 0.1)
    assert torch.equal(fault(maps, seeded(5)), fault(maps, seeded(5)))
    assert not torch.equal(fault(maps, seeded(5)), fault(maps, seeded(6)))
