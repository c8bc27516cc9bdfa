"""Segmentation with contrast as an auxiliary term: the encoder goes on being contrasted while it learns to segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from torch import Tensor, nn

from scripts.losses.class_memory import PixelContrast
from scripts.losses.supcon import ContrastiveCriterion
from scripts.networks.contrastive import ContrastiveNetwork
from scripts.networks.segmenter import QuerySegmenter


class ContrastedSegmenter(nn.Module):
    """The segmentation stage's network with a second output: queries -> logits, and embeddings of the same features.

    Args:
        segmenter: what is trained and later predicts.
        contrastive: network of the contrastive stage on the same encoder; its head goes on from there.

    forward: [query, channel, x, y] -> logits [query, out_channels, x, y] and embeddings [query, dim].
    """

    def __init__(self, segmenter: QuerySegmenter, contrastive: ContrastiveNetwork) -> None:
        super().__init__()
        if contrastive.encoder is not segmenter.encoder:
            raise ValueError("segmenter and contrastive network have different encoders; give both the same one.")
        if contrastive.decoder not in (None, segmenter.decoder):
            raise ValueError("segmenter and contrastive network have different decoders; give both the same one.")
        if segmenter.frozen_encoder:
            raise ValueError("an auxiliary contrastive term cannot move a frozen encoder; set frozen_encoder to false.")
        self.segmenter, self.contrastive = segmenter, contrastive

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Segment and embed queries."""
        maps = self.segmenter.encoder(queries)
        return self.segmenter.decode(maps, queries).float(), self.contrastive.embed(maps, queries)

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Encoder, decoder and projection head."""
        return chain(self.segmenter.trainable_parameters(), self.contrastive.head.parameters())


class ContrastedLoss(nn.Module):
    """Segmentation loss + weight x contrastive loss (our choice; the paper contrasts before segmentation only).

    Args:
        segmentation: loss of logits and targets.
        contrastive: criterion of embeddings (of queries or of pixels) and targets.
        weight: of the contrastive term.
    """

    def __init__(
        self, segmentation: nn.Module, contrastive: ContrastiveCriterion | PixelContrast, weight: float = 0.1
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"the weight {weight} of the contrastive term is negative; give 0 or more.")
        self.segmentation, self.contrastive, self.weight = segmentation, contrastive, weight

    def forward(self, outputs: tuple[Tensor, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of a batch; targets has the label [query, 1, x, y] beside what decides the positives."""
        logits, embeddings = outputs
        loss: Tensor = self.segmentation(logits, targets)
        contrast: Tensor = self.contrastive(embeddings, targets)
        return loss + self.weight * contrast
