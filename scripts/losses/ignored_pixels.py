"""Pixels whose truth is unknown (IGNORED in a label) leave every loss, without a change of the loss itself.

There the network is taken to be certain of the background, and so is the truth: no cross entropy, nothing in a Dice
without background, and no gradient. Our choice: MONAI's losses have no value to ignore.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
