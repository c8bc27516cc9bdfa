"""The coarse stage: its grid, its tiles, and the probabilities it gives."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from scripts.networks.coarse_segmenter import CoarseSegmenter, _tiles


class Threshold(nn.Module):
    """A network that gives its one organ the probability of the image's grey value, voxel by voxel."""

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        for size in image.shape[2:]:
            if size % self.multiple:
                raise ValueError(f"{list(image.shape)} is no multiple of {self.multiple}")
        logit = torch.logit(image, eps=1e-6)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def image_of(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 300), st.integers(1, 64), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_tiles_cover_a_length_with_the_demanded_overlap(size: int, tile: int, overlap: float) -> None:
    tiles = _tiles(size, tile, overlap)
    assert tiles[0][0] == 0 and tiles[-1][1] == size
    assert all(0 < end - start <= tile for start, end in tiles)
    assert all(before[1] - after[0] >= int(tile * overlap) for before, after in pairwise(tiles))


def test_tiles_are_no_larger_than_their_number_demands() -> None:
    assert _tiles(96, 96, 0.25) == [[0, 96]]
    assert _tiles(97, 96, 0.25) == [[0, 61], [36, 97]]  # not twice 96 voxels, nearly all of them the same
    assert _tiles(160, 96, 0.25) == [[0, 92], [68, 160]]


def test_the_coarse_grid_has_the_shape_of_the_spacings_ratio() -> None:
    segmenter = CoarseSegmenter(Threshold(), [1.5, 1.5, 3.0], [3.0, 4.5, 6.0])
    assert segmenter.grid_size([20, 30, 9]) == [10, 10, 4]
    assert segmenter.grid_size([1, 1, 1]) == [1, 1, 1]


def test_a_coarse_voxel_is_the_mean_of_its_voxels() -> None:
    segmenter = CoarseSegmenter(Threshold(), [2.0, 2.0, 3.0], [4.0, 4.0, 3.0])
    image = torch.tensor([[0.0, 0.2], [0.4, 0.6]])[None, :, :, None]
    assert segmenter.to_coarse_grid(image).flatten().tolist() == pytest.approx([0.3])


def test_probabilities_of_organs_come_without_the_background() -> None:
    image = image_of(6, 4, 2)
    found = CoarseSegmenter(Threshold(), [2.0] * 3, [2.0] * 3)(image)
    assert found.shape == (1, 6, 4, 2)
    assert found.dtype == torch.half
    assert torch.allclose(found[0].float(), image, atol=1e-3)


@pytest.mark.parametrize("tile", [[4, 3, 2], [5, 100, 1], [8, 8, 8]])
def test_tiles_of_a_voxelwise_network_give_what_the_whole_volume_gives(tile: list[int]) -> None:
    image = image_of(13, 9, 5)
    tiled = CoarseSegmenter(Threshold(), [2.0] * 3, [2.0] * 3, tile=tile, overlap=0.25)(image)
    assert torch.allclose(tiled[0].float(), image, atol=1e-3)


def test_a_volume_of_any_size_is_padded_to_a_multiple_of_the_networks_stride() -> None:
    image = image_of(13, 9, 5)
    found = CoarseSegmenter(Threshold(multiple=8), [2.0] * 3, [2.0] * 3, multiple=8)(image)
    assert found.shape == (1, 13, 9, 5)
    assert torch.allclose(found[0].float(), image, atol=1e-3)


def test_the_same_comes_out_of_torchscript() -> None:
    segmenter = CoarseSegmenter(nn.Conv3d(1, 3, 3, padding=1), [2.0] * 3, [3.0] * 3, tile=[6, 6, 6], multiple=4).eval()
    with torch.no_grad():
        assert torch.equal(torch.jit.script(segmenter)(image_of(15, 8, 5)), segmenter(image_of(15, 8, 5)))


def test_a_spacing_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="three positive numbers in mm"):
        CoarseSegmenter(Threshold(), [2.0] * 3, [4.0, 4.0])
