"""Contours hold a region pixel by pixel: separate pieces, holes, pieces in holes, whatever a program asks of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from scipy.ndimage import gaussian_filter

from scripts.dicom.contours import Points, contours_of, filled


def by_matplotlib(contour: Points, shape: tuple[int, int]) -> Any:
    """Another algorithm: winding numbers of every pixel centre."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    return Outline(contour).contains_points(centres).reshape(shape)


def region_of(*rows: str) -> Any:
    """A drawing as [column, row]."""
    return np.array([[letter == "#" for letter in row] for row in rows]).T


def test_a_pixel_is_outlined_halfway_to_its_neighbours() -> None:
    (contour,) = contours_of(region_of("....", "..#."))
    np.testing.assert_array_equal(contour, [[1.5, 1.0], [2.0, 0.5], [2.5, 1.0], [2.0, 1.5]])


def test_pieces_are_separate_and_a_hole_is_one_contour_with_what_surrounds_it() -> None:
    ring = region_of("#####..", "#...#..", "#.#.#.#", "#...#..", "#####..")
    contours = contours_of(ring)
    assert len(contours) == 3  # the ring, what lies in its hole, and the pixel beside it
    assert sorted(int(by_matplotlib(contour, ring.shape).sum()) for contour in contours) == [1, 1, 16]


@pytest.mark.parametrize("smoothing", [0.0, 0.8, 2.0])
def test_every_pixel_is_found_again_by_two_rasterisers_and_pieces_do_not_overlap(smoothing: float) -> None:
    generator = np.random.default_rng(int(10 * smoothing))
    for _ in range(40):
        shape = tuple(generator.integers(1, 40, 2))
        noise = gaussian_filter(generator.random(shape), smoothing)
        region = noise > np.quantile(noise, generator.random())
        pieces = contours_of(region)
        for rasterise in (filled, by_matplotlib):
            np.testing.assert_array_equal(sum(rasterise(one, shape).astype(int) for one in pieces) + 0 * region, region)


def test_a_contour_beyond_the_slice_is_cut_at_its_edge() -> None:
    assert filled(np.array([[-9.0, -9.0], [1.2, -9.0], [1.2, 9.0], [-9.0, 9.0]]), (4, 3)).sum() == 6


def test_where_a_contour_crosses_itself_an_even_number_is_outside() -> None:
    twice = np.array([[-1.0, -1.0], [5.5, -1.0], [5.5, 5.5], [-1.0, 5.5]] * 2)
    assert not filled(twice, (5, 5)).any()
