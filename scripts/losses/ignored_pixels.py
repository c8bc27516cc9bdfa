"""Pixels whose truth is unknown (IGNORED in a label) leave every loss, without a change of the loss itself.

There the network is taken to be certain of the background, and so is the truth: no cross entropy, nothing in a Dice
without background, and no gradient. Our choice: MONAI's losses have no value to ignore.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.preprocessing.organ_labels import IGNORED

EXCLUDED_LOGIT = -1.0e4


def certain_background(logits: Tensor, ignored: Tensor) -> Tensor:
    """Logits that are certain of the background where `ignored`, and as they were elsewhere.

    Args:
        logits: [batch, class, ...], background first; or [batch, 1, ...] of one binary organ.
        ignored: [batch, 1, ...] bool.

    Example: at an ignored pixel the logits (.2, 3, 1) become (0, -1e4, -1e4), whose softmax is (1, 0, 0).
    """
    if not bool(ignored.any()):
        return logits
    if logits.shape[1] == 1:
        return logits.masked_fill(ignored, EXCLUDED_LOGIT)
    return torch.cat([logits[:, :1].masked_fill(ignored, 0.0), logits[:, 1:].masked_fill(ignored, EXCLUDED_LOGIT)], 1)


class IgnoringLoss(nn.Module):
    """A loss of query logits that does not count IGNORED pixels.

    The mean of a cross entropy still divides by all pixels, so that a border of ignored pixels scales it a little.

    Args:
        loss: of logits [query, 1, x, y] and label [query, 1, x, y] of 0 and 1.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss of a batch."""
        ignored = label == IGNORED
        loss: Tensor = self.loss(certain_background(logits, ignored), label.masked_fill(ignored, 0))
        return loss
