"""Segmentation stage: encoder + decoder, by default one binary output for the highlighted organ."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import QueryEncoder


def attention_logits(queries: Tensor, classes: int, floor: float = 0.02) -> Tensor:
    """Logits [query, class, x, y] that predict just what the attention of queries [query, channel, x, y] says.

    With one class, the organ, the last channel is its map; with background + organs the last channels are all maps.
    Probabilities are kept `floor` away from 0 (and 1): attention is never taken for certain.
    """
    if classes == 1:
        return torch.logit(queries[:, -1:].float(), eps=floor)
    organs = queries[:, 1 - classes :].float()
    probabilities = torch.cat([1.0 - organs.sum(dim=1, keepdim=True), organs], dim=1)
    return probabilities.clamp(floor, 1.0).log()


class QuerySegmenter(nn.Module):
    """Encoder + decoder: queries [query, channel, x, y] -> logits [query, out_channels, x, y].

    A frozen encoder stays as the contrastive stage left it (public code); otherwise it is fine-tuned (our default).
    With `attention_residual` the log-odds of the attention, clipped at +-3.9, are added to the logits: the network
    learns what to change in the coarse map instead of finding it again (our choice; the paper's form is False). A
    decoder of several classes gets the log-probabilities of the background and of the maps in the last channels.
    """

    def __init__(
        self,
        encoder: QueryEncoder,
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
        return self.corrected(self.decoder(maps, queries.shape[2:]), queries)

    def corrected(self, logits: Tensor, queries: Tensor) -> Tensor:
        """The decoder's logits, with those of the attention added if the network learns what to change in it."""
        if self.attention_residual:
            logits = logits.float() + attention_logits(queries, logits.shape[1])
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


class SharedSegmenter(nn.Sequential):
    """What sites of a federated training share: a query segmenter whose weights are named as in the whole predictor."""

    def __init__(self, segmenter: QuerySegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that the segmentation stage optimises."""
        return self.segmenter.trainable_parameters()
