"""The segmenter with pixel embeddings predicts what the segmenter alone predicts."""

from __future__ import annotations

import torch

from development.baselines.pixel_contrast import PixelContrastedSegmenter
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter


def test_logits_are_those_of_the_segmenter_and_embeddings_are_unit_vectors() -> None:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18")
    segmenter = QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, width=16), attention_residual=True)
    network = PixelContrastedSegmenter(segmenter, classes=3, dim=8, memory=4).eval()
    queries = torch.rand(2, 2, 32, 32)
    logits, embeddings = network(queries)
    torch.testing.assert_close(logits, segmenter(queries))
    assert embeddings.shape == (2, 8, 16, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2, 16, 16))
    learned = {id(parameter) for parameter in network.trainable_parameters()}
    assert learned == {id(parameter) for parameter in network.parameters()}
