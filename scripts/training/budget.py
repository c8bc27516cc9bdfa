"""Budgets in images: arms are compared after the same number of images, whatever their stages."""

from __future__ import annotations

import math
from collections.abc import Sequence


def epochs_of_both_stages(contrastive: Sequence[int], segmentation: Sequence[int], epoch: Sequence[int]) -> int:
    """Epochs in which one stage alone sees the images of the contrastive and the segmentation stage together.

    A baseline that leaves the contrastive stage out would otherwise be compared after fewer images.

    Args:
        contrastive: factors of the images of the contrastive stage: epochs, iterations, queries, views.
        segmentation: factors of those of the segmentation stage: epochs, iterations, queries.
        epoch: factors of the images of one epoch of the lone stage: iterations, images in a batch.

    Example: 40 x 50 x 64 x 2 views and 80 x 50 x 64 queries are 160 epochs of 50 x 64 images.

    >>> epochs_of_both_stages([40, 50, 64, 2], [80, 50, 64], [50, 64])
    160
    """
    return max(1, round((math.prod(contrastive) + math.prod(segmentation)) / math.prod(epoch)))
