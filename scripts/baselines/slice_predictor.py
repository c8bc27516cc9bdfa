"""The slice baseline as a predictor: volume in HU -> class scores, slice by slice, windows blended."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from scripts.inference.fusion import blending_weights
from scripts.inference.predictor import check_volume, encode_names, slices_of
from scripts.networks.segmenter import QuerySegmenter
from scripts.preprocessing.intensity import check_window, soft_tissue_window
from scripts.queries.planner import window_corners
from scripts.queries.views import slices_with_neighbours


class SlicePredictor(nn.Module):
    """Plain 2D multi-class segmentation of every slice.

    Args:
        organs: organ names in the order of their class indices.
        window: soft-tissue window in HU.
        segmenter: network with 1 + organs output channels.
        patch_size: side of the windows, as at training.
        overlap: of neighbouring windows, as a fraction.
        adjacent_slices: neighbours on either side as extra channels.
        batch_size: windows in one pass.
        image_channels: of a slice: 1 in CT, 3 in colour photographs.

    forward: [batch, image_channels, x, y, z] in HU on the working grid -> [batch, 1 + organs, x, y, z] in [0, 1].
    """

    def __init__(
        self,
        organs: Sequence[str],
        window: Sequence[float],
        segmenter: QuerySegmenter,
        patch_size: int,
        overlap: float = 0.25,
        adjacent_slices: int = 0,
        batch_size: int = 32,
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        self.segmenter, self.patch_size, self.overlap = segmenter, int(patch_size), float(overlap)
        self.lower, self.upper = check_window(window)
        self.adjacent_slices, self.batch_size = int(adjacent_slices), int(batch_size)
        self.image_channels = int(image_channels)
        self.register_buffer("organ_names", encode_names(organs))
        self.register_buffer("blend", blending_weights(self.patch_size), persistent=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        check_volume(volume, self.image_channels)
        return torch.stack([self._scores(volume[n]) for n in range(volume.shape[0])])

    def _starts(self, size: int) -> list[int]:
        """First pixels of the windows that cover an axis."""
        low, high = torch.zeros(1), torch.full((1,), float(size))
        count, walk = window_corners(low, high, self.patch_size, self.overlap, size)
        return [int(round(float(walk[0, 0]) + n * float(walk[0, 1]))) for n in range(int(count[0]))]

    def _scores(self, hu: Tensor) -> Tensor:
        image = slices_of(soft_tissue_window(hu.float(), self.lower, self.upper))
        patch, (x, y, depth) = self.patch_size, (hu.shape[1], hu.shape[2], hu.shape[3])
        image = pad(image, [0, max(0, patch - y), 0, max(0, patch - x)])
        blend = torch.as_tensor(self.blend)
        total, weight = torch.zeros(0, device=hu.device), torch.zeros(image.shape[1:], device=hu.device)
        for i in self._starts(x):
            for j in self._starts(y):
                probability = self._windows(image[:, i : i + patch, j : j + patch])
                if total.numel() == 0:
                    shape = [depth, probability.shape[1], image.shape[1], image.shape[2]]
                    total = torch.zeros(shape, device=hu.device)
                total[:, :, i : i + patch, j : j + patch] += probability * blend
                weight[i : i + patch, j : j + patch] += blend
        return (total / weight)[:, :, :x, :y].permute(1, 2, 3, 0)

    def _windows(self, slices: Tensor) -> Tensor:
        """Class probabilities [slice, class, x, y] of the same window in every slice."""
        indices = torch.arange(slices.shape[0] // self.image_channels, device=slices.device)
        queries = slices_with_neighbours(slices, indices, self.adjacent_slices, self.image_channels)
        parts = [self.segmenter(part).float().softmax(dim=1) for part in queries.split(self.batch_size)]
        return torch.cat(parts)
