"""Segmentation stage: encoder + decoder, one binary output for the highlighted organ."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder


class QuerySegmenter(nn.Module):
    """Encoder + decoder: queries [query, channel, x, y] -> logits [query, out_channels, x, y].

    Args:
        encoder: maps of a query.
        decoder: maps to logits.
        frozen_encoder: keep the encoder as the contrastive stage left it (public code) or fine-tune it (our default).
        attention_residual: add the log-odds of the attention, clipped at +-3.9, to the logits: the network learns what
            to change in the coarse map instead of finding it again (our choice; the paper's form is False).
    """

    def __init__(
        self,
        encoder: ResNetEncoder,
        decoder: DeepLabDecoder,
        frozen_encoder: bool = False,
        attention_residual: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.frozen_encoder, self.attention_residual = frozen_encoder, attention_residual

    def forward(self, queries: Tensor) -> Tensor:
        """Segment the highlighted organ of each query."""
        maps = self.encoder(queries)
        if self.frozen_encoder:
            maps = [features.detach() for features in maps]
        return self.decode(maps, queries)

    def decode(self, maps: list[Tensor], queries: Tensor) -> Tensor:
        """Logits of queries whose encoder maps are there."""
        logits: Tensor = self.decoder(maps, queries.shape[2:])
        if self.attention_residual:
            logits = logits.float() + torch.logit(queries[:, -1:].float(), eps=0.02)
        return logits

    def train(self, mode: bool = True) -> QuerySegmenter:
        """Set training mode; a frozen encoder keeps its batch statistics."""
        super().train(mode)
        if self.frozen_encoder:
            self.encoder.eval()
        return self

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that the segmentation stage optimises."""
        return self.decoder.parameters() if self.frozen_encoder else self.parameters()
