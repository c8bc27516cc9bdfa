"""The loss of the segmentation stage: organ by organ, so that a large organ does not drown a small one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scripts.losses.partial_labels import certain_background
from scripts.preprocessing.organ_labels import IGNORED


class QueryLoss(nn.Module):
    """Mean over the organs of a batch of a loss of that organ's queries; IGNORED pixels do not count.

    L = 1/|O| sum over o in O of loss(queries of o), O being the organs that the batch queries. A Dice pooled over all
    queries weighs an organ by its pixels: an esophagus has a tenth of a parotid's and hardly moves it (our choice; the
    paper does not say how its Dice is pooled).

    Args:
        loss: loss of logits [query, 1, x, y] and label [query, 1, x, y] of 0 and 1. A Dice should pool its queries
            (MONAI: batch=True), since a query whose organ is absent has none.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of logits [query, 1, x, y] against targets["label"] [query, 1, x, y] and targets["organ"] [query].

        The mean of a cross entropy still divides by all pixels, so that a border of ignored pixels scales it a little.
        """
        label, organ = targets["label"], targets["organ"]
        ignored = label == IGNORED
        logits, label = certain_background(logits, ignored), label.masked_fill(ignored, 0)
        queried = organ.to(logits.device)
        return torch.stack([self.loss(logits[queried == one], label[queried == one]) for one in organ.unique()]).mean()
