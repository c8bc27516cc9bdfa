"""A coarse stage that finds the organs without training: it works like the real one and answers from the label map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from scripts.networks.coarse_segmenter import CoarseSegmenter


def coarse_maps_of_labels(labels: Tensor, organs: int, segmenter: CoarseSegmenter) -> Tensor:
    """Share of every organ in the coarse voxels: labels [x, y, z] on the working grid -> [organ, x', y', z']."""
    size = segmenter.grid_size(list(labels.shape))
    planes = [(labels == organ).float() for organ in range(1, organs + 1)]
    return torch.stack([interpolate(plane[None, None], size=size, mode="area")[0, 0] for plane in planes])


class OracleCoarse(CoarseSegmenter):
    """A coarse segmenter whose network runs, for its time and memory, and whose answer is given.

    With random weights a coarse network finds nothing or everything, and the number of queries would be unreal.

    Args:
        segmenter: the coarse stage that is imitated.
        maps: its answer [organ, x', y', z'], resized to the coarse grid of the volume.
    """

    def __init__(self, segmenter: CoarseSegmenter, maps: Tensor) -> None:
        # The ratio of the spacings is all that a segmenter keeps of them.
        super().__init__(
            segmenter.network, segmenter.ratio, [1.0] * 3, segmenter.tile, segmenter.overlap, segmenter.multiple
        )
        self.maps = maps

    def forward(self, image: Tensor) -> Tensor:
        """Work, then answer."""
        found = super().forward(image)
        size = [found.shape[1], found.shape[2], found.shape[3]]
        return interpolate(self.maps[None].to(found), size=size, mode="trilinear", align_corners=False)[0]
