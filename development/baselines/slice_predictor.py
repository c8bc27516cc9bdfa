"""The slice baseline as a predictor: volume in HU -> class scores, slice by slice, windows blended."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from scripts.inference.fusion import blending_weights
from scripts.inference.predictor import Predictor, slices_of
from scripts.networks.segmenter import QuerySegmenter
from scripts.queries.planner import QueryPlanner, window_corners
from scripts.queries.views import slices_with_neighbours


class SlicePredictor(Predictor):
    """Plain 2D multi-class segmentation of every slice, in windows of the planner's side and overlap.

    The segmenter has 1 + organs output channels; `batch_size` slices are one pass. The rest is as in
    :class:`~scripts.inference.predictor.TwoStagePredictor`.
    """

    def __init__(
        self,
        organs: Sequence[str],
        window: Sequence[float],
        planner: QueryPlanner,
        segmenter: QuerySegmenter,
        adjacent_slices: int = 0,
        batch_size: int = 32,
        image_channels: int = 1,
    ) -> None:
        super().__init__(organs, window, image_channels)
        self.segmenter, self.patch_size, self.overlap = segmenter, planner.patch_size, planner.overlap
        self.adjacent_slices, self.batch_size = int(adjacent_slices), int(batch_size)
        self.register_buffer("blend", blending_weights(self.patch_size), persistent=False)

    def maps_of(self, image: Tensor) -> Tensor:
        """What the network sees beside the windowed volume [channel, x, y, z]: [slice, channel, x', y'], here none."""
        return image.new_zeros(image.shape[3], 0, 1, 1)

    def on_slices(self, maps: Tensor, x: int, y: int) -> Tensor:
        """These maps as channels on the pixels of the slices [slice, channel, x, y]."""
        return maps.expand(-1, -1, x, y)

    def _starts(self, size: int) -> list[int]:
        """First pixels of the windows that cover an axis."""
        low, high = torch.zeros(1), torch.full((1,), float(size))
        count, walk = window_corners(low, high, self.patch_size, self.overlap, size)
        return [int(round(float(walk[0, 0]) + n * float(walk[0, 1]))) for n in range(int(count[0]))]

    def scores(self, image: Tensor) -> Tensor:
        """Class scores of one volume."""
        maps, slices = self.maps_of(image), slices_of(image)
        # A pass of some slices at a time: full-size maps of all organs in all slices would fill the memory.
        parts = torch.arange(image.shape[3], device=image.device).split(self.batch_size)
        near, channels = self.adjacent_slices, self.image_channels
        scores = [self._fused(slices_with_neighbours(slices, part, near, channels), maps[part]) for part in parts]
        return torch.cat(scores).permute(1, 2, 3, 0)

    def _fused(self, images: Tensor, maps: Tensor) -> Tensor:
        """Class probabilities [slice, class, x, y] of some slices [slice, neighbour, x, y] with their maps."""
        patch, (x, y) = self.patch_size, images.shape[2:]
        channels = torch.cat([images, self.on_slices(maps, x, y)], dim=1)
        channels = pad(channels, [0, max(0, patch - y), 0, max(0, patch - x)])
        blend, weight = torch.as_tensor(self.blend), torch.zeros(channels.shape[2:], device=images.device)
        total = torch.zeros(0, device=images.device)
        for i in self._starts(x):
            for j in self._starts(y):
                logits = self.segmenter(channels[:, :, i : i + patch, j : j + patch])
                probability = logits.float().softmax(dim=1)
                if total.numel() == 0:
                    total = torch.zeros([*probability.shape[:2], *channels.shape[2:]], device=images.device)
                total[:, :, i : i + patch, j : j + patch] += probability * blend
                weight[i : i + patch, j : j + patch] += blend
        return (total / weight)[:, :, :x, :y]
