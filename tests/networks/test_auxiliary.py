"""Contrast as an auxiliary term of the segmentation stage."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from scripts.losses.query_loss import QueryLoss
from scripts.losses.supcon import ContrastiveCriterion, SupConLoss
from scripts.networks.auxiliary import ContrastedLoss, ContrastedSegmenter
from scripts.networks.contrastive import ContrastiveNetwork, ProjectionHead
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter


def make(frozen: bool = False) -> ContrastedSegmenter:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18")
    segmenter = QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, width=16), frozen_encoder=frozen)
    return ContrastedSegmenter(segmenter, ContrastiveNetwork(encoder, ProjectionHead(512, 16, 8)))


def targets() -> dict[str, torch.Tensor]:
    label = (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    return {"label": label, "organ": torch.tensor([1, 1, 2, 2]), "phase": torch.zeros(4, dtype=torch.long)}


def test_it_segments_and_embeds_like_the_two_networks_it_is_made_of() -> None:
    network, queries = make().eval(), torch.rand(4, 2, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits, embeddings = network(queries)
        assert torch.equal(logits, network.segmenter(queries))
        assert torch.equal(embeddings, network.contrastive(queries))


def test_the_loss_is_the_weighted_sum_and_at_weight_0_the_segmentation_loss() -> None:
    segmentation, contrast = QueryLoss(DiceCELoss(sigmoid=True, batch=True)), ContrastiveCriterion(SupConLoss())
    outputs = make().eval()(torch.rand(4, 2, 32, 32, generator=torch.Generator().manual_seed(2)))
    parts = segmentation(outputs[0], targets()), contrast(outputs[1], targets())
    assert torch.equal(ContrastedLoss(segmentation, contrast, 0.0)(outputs, targets()), parts[0])
    assert torch.allclose(ContrastedLoss(segmentation, contrast, 0.5)(outputs, targets()), parts[0] + 0.5 * parts[1])


def test_encoder_decoder_and_head_are_trained_once_each() -> None:
    network = make()
    parameters = list(network.trainable_parameters())
    assert len({id(p) for p in parameters}) == len(parameters)
    assert {id(p) for p in parameters} == {id(p) for p in network.parameters()}


def test_a_frozen_encoder_other_networks_and_a_negative_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot move a frozen encoder"):
        make(frozen=True)
    with pytest.raises(ValueError, match="different encoders"):
        ContrastedSegmenter(make().segmenter, make().contrastive)
    segmenter = make().segmenter
    other = DeepLabDecoder(segmenter.encoder.channels, width=16)
    with pytest.raises(ValueError, match="different decoders"):
        head = ProjectionHead(other.feature_channels, 16, 8)
        ContrastedSegmenter(segmenter, ContrastiveNetwork(segmenter.encoder, head, "decoder", other))
    with pytest.raises(ValueError, match="is negative"):
        ContrastedLoss(QueryLoss(DiceCELoss(sigmoid=True)), ContrastiveCriterion(SupConLoss()), -1.0)
