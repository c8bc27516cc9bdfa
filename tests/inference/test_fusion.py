"""Fusion: overlapping patches become one picture, and class scores keep the background where no organ wins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scripts.inference.fusion import background_score, blending_weights, paste


def fused(probabilities: Tensor, windows: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Blended probabilities [slice, x, y] and their weights."""
    total, weight = torch.zeros(shape), torch.zeros(shape)
    paste(total, weight, probabilities, windows, blending_weights(probabilities.shape[1]))
    return total / weight.clamp(min=1e-6), weight


@given(
    seed=st.integers(0, 2**20),
    corners=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), min_size=1, max_size=6),
)
def test_fusing_windows_of_one_picture_gives_the_picture_back(seed: int, corners: list[tuple[int, int]]) -> None:
    picture = torch.rand(20, 16, generator=torch.Generator().manual_seed(seed))
    patches = torch.stack([picture[x : x + 8, y : y + 8] for x, y in corners])
    windows = torch.tensor([[1, x, y] for x, y in corners])
    result, weight = fused(patches, windows, (2, 20, 16))
    covered = weight[1] > 0
    torch.testing.assert_close(result[1][covered], picture[covered], atol=1e-5, rtol=0)
    # Nothing is written outside of the windows, nor to another slice.
    assert float(result[1][~covered].sum()) == 0
    assert float(weight.sum()) == pytest.approx(float(weight[1].sum()))
    assert int(covered.sum()) == len({(x + i, y + j) for x, y in corners for i in range(8) for j in range(8)})


def test_where_two_windows_disagree_the_nearer_centre_has_more_to_say() -> None:
    patches = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    result, _ = fused(patches, torch.tensor([[0, 0, 0], [0, 4, 0]]), (1, 12, 8))
    column = result[0, :, 4]
    assert column[:4].tolist() == [0] * 4 and column[8:].tolist() == [1] * 4
    overlap = column[4:8].tolist()
    assert overlap == sorted(overlap) and overlap[0] < 0.5 < overlap[-1]
    assert overlap[0] + overlap[-1] == pytest.approx(1), "both windows have the same rights"


def test_the_weight_falls_from_the_centre_to_the_border_alike_on_all_sides() -> None:
    weights = blending_weights(8)
    assert weights.shape == (8, 8)
    for turned in (weights.flip(0), weights.flip(1), weights.T):
        torch.testing.assert_close(weights, turned)
    profile = weights[3].tolist()
    assert profile[:4] == sorted(profile[:4]) and min(profile) > 0
    # At an eighth of a standard deviation beside the centre: exp(-(.5 / 2)^2 / 2), along both axes.
    assert float(weights[3, 3]) == pytest.approx(torch.exp(torch.tensor(-0.0625)).item(), rel=1e-5)


def class_scores(probabilities: Tensor) -> Tensor:
    """Background score and organ probabilities: [1 + organ, ...]."""
    return torch.cat([background_score(probabilities)[None], probabilities])


@given(st.integers(0, 2**20), st.integers(1, 5))
def test_background_wins_exactly_where_no_organ_has_half_of_the_probability(seed: int, organs: int) -> None:
    probabilities = torch.rand(organs, 5, 4, 2, generator=torch.Generator().manual_seed(seed))
    labels = class_scores(probabilities).argmax(dim=0)
    assert torch.equal(labels == 0, probabilities.amax(dim=0) < 0.5)
    assert torch.equal((labels - 1)[labels > 0], probabilities.argmax(dim=0)[labels > 0])


def test_class_scores_by_hand() -> None:
    probabilities = torch.tensor([[0.1, 0.8, 0.9], [0.2, 0.3, 0.95]])
    scores = class_scores(probabilities)
    torch.testing.assert_close(scores, torch.tensor([[0.8, 0.2, 0.05], [0.1, 0.8, 0.9], [0.2, 0.3, 0.95]]))
    assert scores.argmax(dim=0).tolist() == [0, 1, 2]
