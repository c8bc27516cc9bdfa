"""Somebody else's 3D network on the working grid, as a bar outside of the method: batches and predictor.

An image is a slice of a patch: so budgets in images compare. It is as large as a query patch, or larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.coarse.patches import CoarsePatches
from scripts.inference.predictor import Predictor
from scripts.networks.coarse_segmenter import CoarseSegmenter

SMALLEST_SIDE = 64


class VolumeBatches(CoarsePatches):
    """Random 3D patches of `depth` slices on the grid of the network; `batch_size` counts slices, a multiple of it.

    Their in-plane side follows from the pixels of a query window (`patch_side`); `settings` are the rest of
    :class:`~scripts.coarse.patches.CoarsePatches`.
    """

    def __init__(self, query_size: int, batch_size: int, depth: int = 32, **settings: Any) -> None:
        if batch_size % depth or batch_size < depth:
            raise ValueError(f"{batch_size} images are no whole number of patches of {depth} slices: give a multiple.")
        side = patch_side(query_size)
        super().__init__(patch_size=[side, side, depth], batch_size=batch_size // depth, **settings)


def patch_side(window: int) -> int:
    """Pixels of a 3D patch along x and y: those of a query window, at least 64.

    Windows are cut around an organ that is known already; a 3D network has to find it (our choice).
    """
    return max(SMALLEST_SIDE, window)


class VolumePredictor(Predictor):
    """A 3D network as the predictor, tile by tile, on a coarse grid that is the working grid."""

    def __init__(
        self, organs: Sequence[str], window: Sequence[float], coarse: CoarseSegmenter, image_channels: int = 1
    ) -> None:
        super().__init__(organs, window)
        if image_channels != 1:
            raise ValueError(f"a 3D network is a baseline for CT; image_channels is {image_channels}: leave it at 1.")
        if any(ratio != 1 for ratio in coarse.ratio):
            raise ValueError("the network has to work on the working grid: set coarse_spacing to the spacing.")
        self.coarse = coarse

    def scores(self, image: Tensor) -> Tensor:
        """Class scores of one volume."""
        organs = self.coarse(image).float()
        return torch.cat([1.0 - organs.sum(dim=0, keepdim=True), organs])
