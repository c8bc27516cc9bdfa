"""Pixel-wise supervised contrast with a class memory: pixels of one class attract, over batches.

After ContrastiveSeg (Wang et al., arXiv 2101.11939) and Alonso et al. (arXiv 2104.13415), whose memory keeps
embeddings of earlier batches for each class, so that a rare organ has positives and negatives in every batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from scripts.losses.supcon import SupConLoss


class ClassMemory(nn.Module):
    """The last `size` embeddings of length `dim` of every class, first in, first out."""

    entries: Tensor
    written: Tensor

    def __init__(self, classes: int, size: int, dim: int) -> None:
        super().__init__()
        if min(classes, size, dim) < 1:
            raise ValueError(f"a memory of {size} embeddings of {dim} for {classes} classes: give at least 1 of each.")
        # Buffers: they belong to the checkpoint, and are no parameters.
        self.register_buffer("entries", torch.zeros(classes, size, dim))
        self.register_buffer("written", torch.zeros(classes, dtype=torch.int64))

    def kept(self) -> tuple[Tensor, Tensor]:
        """Embeddings [entry, dim] and their classes [entry]."""
        classes, size, _ = self.entries.shape
        there = torch.arange(size, device=self.entries.device) < self.written[:, None]
        return self.entries[there], torch.arange(classes, device=self.entries.device)[:, None].expand(-1, size)[there]

    @torch.no_grad()
    def add(self, embeddings: Tensor, classes: Tensor) -> None:
        """Keep embeddings [pixel, dim] of these classes [pixel] in place of the oldest."""
        size = self.entries.shape[1]
        for which in classes.unique().tolist():
            new = embeddings[classes == which][-size:].to(self.entries.dtype)
            places = (self.written[which] + torch.arange(len(new), device=new.device)) % size
            self.entries[which, places] = new
            self.written[which] += len(new)


class PixelContrast(nn.Module):
    """SupCon over pixels of the batch and the memory.

    The class of a pixel is the organ that is queried, where the label says so, and 0 elsewhere: what is no
    organ of this query may be one of another, so class 0 means "not queried" (our choice; the query says what is
    meant). On the coarser grid of the embeddings a pixel is the organ's where most of it is. A batch gives at most
    `pixels` of each class, evenly spaced, so that a resumed run takes the same; they are added to the memory.
    """

    def __init__(self, memory: ClassMemory, temperature: float = 0.1, pixels: int = 32) -> None:
        super().__init__()
        if pixels < 1:
            raise ValueError(f"{pixels} pixels of each class cannot be contrasted: give at least 1, for example 32.")
        self.loss, self.pixels = SupConLoss(temperature), pixels
        self._memory = [memory]  # in a list: it is the network's module, not one of the loss

    def forward(self, embeddings: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cost of unit embeddings [query, dim, x', y'] against label [query, 1, x, y] and organ [query]."""
        memory = self._memory[0]
        share = adaptive_avg_pool2d((targets["label"] == 1).float(), (embeddings.shape[2], embeddings.shape[3]))
        of_pixel = (share[:, 0] > 0.5) * targets["organ"].to(share.device)[:, None, None]
        rows, of_row = embeddings.permute(0, 2, 3, 1).flatten(0, 2), of_pixel.flatten()
        drawn = torch.cat([self._draw(of_row == which) for which in of_row.unique().tolist()])
        anchors, classes = rows[drawn], of_row[drawn]
        kept, kept_classes = memory.kept()
        cost: Tensor = self.loss(torch.cat([anchors, kept.to(anchors.dtype)]), torch.cat([classes, kept_classes]))
        memory.add(anchors.detach(), classes)
        return cost

    def _draw(self, chosen: Tensor) -> Tensor:
        """Rows of one class, at most `pixels` of them, evenly spaced."""
        rows = torch.nonzero(chosen)[:, 0]
        count = min(self.pixels, len(rows))
        return rows[torch.linspace(0, len(rows) - 1, count, device=rows.device).long()]


class ContrastedLoss(nn.Module):
    """Segmentation loss + weight x contrast of pixels (our choice; the paper contrasts before segmentation only)."""

    def __init__(self, segmentation: nn.Module, contrastive: nn.Module, weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"the weight {weight} of the contrastive term is negative; give 0 or more.")
        self.segmentation, self.contrastive, self.weight = segmentation, contrastive, weight

    def forward(self, outputs: tuple[Tensor, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of a batch; targets has the label [query, 1, x, y] and the organ [query]."""
        logits, embeddings = outputs
        loss: Tensor = self.segmentation(logits, targets) + self.weight * self.contrastive(embeddings, targets)
        return loss
