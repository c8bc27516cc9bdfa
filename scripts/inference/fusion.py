"""Fusion: overlapping patch probabilities -> organ probabilities of a slice -> class scores of a volume.

RAP-Net's public code lets patches vote +1 / -1 per organ and takes the argmax over [0, organs]. Blended probabilities
(our choice) are the soft form of that vote: the background score 1 - max_o p_o wins exactly where no organ reaches .5.
"""

from __future__ import annotations

import torch
from torch import Tensor


def blending_weights(patch: int, softness: float = 0.25) -> Tensor:
    """Weight of each pixel of a patch when windows overlap: [patch, patch], 1 at the centre, falling to the border.

    Args:
        patch: side in pixels.
        softness: standard deviation of the Gaussian as a fraction of the patch.
    """
    offset = torch.arange(patch, dtype=torch.float32) - (patch - 1) / 2
    profile = torch.exp(-0.5 * (offset / (softness * patch)) ** 2).clamp(min=1e-3)
    return profile[:, None] * profile[None, :]


def paste(total: Tensor, weight: Tensor, probabilities: Tensor, queries: Tensor, blend: Tensor) -> None:
    """Add patches to the running sums of a slab, in place.

    Args:
        total: weighted probabilities [slice, organ, x, y].
        weight: sum of weights, the same shape.
        probabilities: [query, x, y] of the organ each query asks for.
        queries: [query, 4] of (slice within the slab, organ, x, y of the first pixel), windows inside of the slab.
        blend: [x, y] from :func:`blending_weights`.
    """
    size_x, size_y = blend.shape[0], blend.shape[1]
    places: list[list[int]] = queries.tolist()
    weighted = probabilities * blend
    for n, place in enumerate(places):
        z, organ, x, y = place[0], place[1], place[2], place[3]
        total[z, organ, x : x + size_x, y : y + size_y] += weighted[n]
        weight[z, organ, x : x + size_x, y : y + size_y] += blend


def class_scores(organ_probabilities: Tensor) -> Tensor:
    """Organ probabilities [slice, organ, x, y] -> class scores [slice, 1 + organ, x, y]; argmax gives fused labels."""
    background = 1.0 - organ_probabilities.amax(dim=1, keepdim=True)
    return torch.cat([background, organ_probabilities], dim=1)
