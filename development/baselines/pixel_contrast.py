"""Segmentation with an embedding for every pixel beside the logits, for pixel-wise supervised contrast."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from development.baselines.class_memory import ClassMemory
from scripts.networks.segmenter import QuerySegmenter


class PixelContrastedSegmenter(nn.Module):
    """The segmentation stage's network with a second output: an embedding of every pixel of the decoder's features.

    The projection is that of ContrastiveSeg (Wang et al., arXiv 2101.11939): 1 x 1 convolution, ReLU, 1 x 1
    convolution. The class memory, of background (organs that are not queried) and organs, is kept here, so that
    checkpoints have it; the loss reads and fills it.

    forward: [query, channel, x, y] -> logits [query, out_channels, x, y], unit embeddings [query, dim, x', y'].
    """

    def __init__(self, segmenter: QuerySegmenter, classes: int, dim: int = 64, memory: int = 64) -> None:
        super().__init__()
        features = segmenter.decoder.output.in_channels
        self.segmenter, self.memory = segmenter, ClassMemory(classes, memory, dim)
        self.head = nn.Sequential(nn.Conv2d(features, features, 1), nn.ReLU(), nn.Conv2d(features, dim, 1))

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Segment queries and embed their pixels."""
        maps = self.segmenter.encoder(queries)
        if self.segmenter.frozen_encoder:
            maps = [level.detach() for level in maps]
        features = self.segmenter.decoder.features(maps)
        logits = self.segmenter.decoder.output(features)
        logits = interpolate(logits, size=queries.shape[2:], mode="bilinear", align_corners=False)
        return self.segmenter.corrected(logits, queries).float(), normalize(self.head(features).float(), dim=1)

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the segmenter, and the projection."""
        return chain(self.segmenter.trainable_parameters(), self.head.parameters())
