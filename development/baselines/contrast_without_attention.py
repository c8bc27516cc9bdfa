"""Contrast without attention: the same views and labels, but the network is not told which organ is meant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scripts.runtime.stage import batch_targets
from scripts.runtime.streams import Batch


def unattended_targets(batch: Batch, device: torch.device, non_blocking: bool, **_: Any) -> tuple[Tensor, Batch]:
    """MONAI's prepare_batch: views [view, slice, x, y] whose attention channel, the last one, is left out."""
    views, targets = batch_targets(batch, device, non_blocking)
    return views[:, :-1], targets
