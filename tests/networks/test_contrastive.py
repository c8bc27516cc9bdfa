"""The contrastive network: pooling by hand, and embeddings on the unit sphere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scripts.networks.contrastive import ContrastiveNetwork, ProjectionHead
from scripts.networks.encoder import ResNetEncoder


class KnownEncoder(nn.Module):
    """An encoder whose last map is known."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, views: Tensor) -> list[Tensor]:
        return [views, views, self.features]


def pooled(features: Tensor, attention: Tensor, pooling: str) -> Tensor:
    """What the head is given."""
    views = torch.cat([torch.zeros_like(attention), attention], dim=1)
    return ContrastiveNetwork(KnownEncoder(features), nn.Identity(), pooling)(views)  # type: ignore[arg-type]


FEATURES = torch.tensor([[1.0, 2.0], [3.0, 10.0]])[None, None]
"""One channel on 2 x 2 positions."""


def test_the_patch_is_averaged_whole_in_the_public_codes_form() -> None:
    assert pooled(FEATURES, torch.ones(1, 1, 4, 4), "patch").tolist() == [[4.0]]


def test_attention_pooling_averages_the_positions_that_it_highlights() -> None:
    # A 4 x 4 attention on 2 x 2 positions: all of the lower left one, half of the lower right one.
    attention = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]]).float()[None, None]
    assert float(pooled(FEATURES, attention, "attention")) == pytest.approx((1 * 3 + 0.5 * 10) / 1.5, abs=0.02)


def test_a_view_whose_attention_was_dropped_is_averaged_whole() -> None:
    assert pooled(FEATURES, torch.zeros(1, 1, 4, 4), "attention").tolist() == [[pytest.approx(4.0)]]


def test_the_strength_of_the_attention_does_not_matter() -> None:
    attention = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    full, half = (pooled(FEATURES, attention * strength, "attention") for strength in (1.0, 0.5))
    assert float(full) == pytest.approx(float(half), abs=0.02)


def test_embeddings_have_unit_norm_in_float32() -> None:
    head = ProjectionHead(16, 8, 4)
    embeddings = head(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    assert embeddings.shape == (5, 4) and embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head(torch.ones(1, 16))
    assert low.dtype == torch.float32 and float(low.detach().norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("pooling", ["patch", "attention"])
def test_the_loss_reaches_the_encoder(pooling: str) -> None:
    encoder = ResNetEncoder("resnet18")
    network = ContrastiveNetwork(encoder, ProjectionHead(encoder.channels[-1], 16, 8), pooling)
    embeddings = network(torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert embeddings.shape == (2, 8)
    (embeddings[0] @ embeddings[1]).backward()
    weight = encoder.stem[0].weight
    assert weight.grad is not None and float(weight.grad.abs().sum()) > 0


def test_another_pooling_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="pooling 'max' is unknown: choose 'patch' or 'attention'"):
        ContrastiveNetwork(ResNetEncoder("resnet18"), ProjectionHead(512), "max")
