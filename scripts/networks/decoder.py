"""Decoder: DeepLabV3+ form, atrous spatial pyramid pooling (ASPP) on the last map and low-level skips."""

from collections.abc import Sequence
from functools import partial

import torch
from monai.networks.blocks import Convolution, SimpleASPP
from torch import Tensor, nn
from torch.nn.functional import interpolate


class DeepLabDecoder(nn.Module):
    """DeepLabV3+ decoder: ASPP on the last map, joined with low-level maps, then the class output.

    The second, finer skip from the stem is our addition: organs such as the spinal cord are a few pixels wide.
    `channels` are those of the three maps of a :class:`~scripts.networks.encoder.QueryEncoder`; there is one output
    channel for an organ query, and organs + 1 for a multi-class slice model. ASPP has a branch for each dilation; the
    public code's 18 would read only padding on an 8 x 8 map.
    """

    def __init__(
        self, channels: Sequence[int], out_channels: int = 1, width: int = 96, dilations: Sequence[int] = (1, 1, 2, 4)
    ) -> None:
        super().__init__()
        if len(channels) != 3:
            raise ValueError(f"the decoder takes three encoder maps, finest first, and got channels {list(channels)}.")
        stem, first, last = channels
        block = partial(Convolution, 2, adn_ordering="NA", norm="batch")
        kernels = [1] + [3] * (len(dilations) - 1)
        self.aspp = SimpleASPP(2, last, width // 2, kernels, tuple(dilations))
        self.reduce_context = block(width // 2 * len(dilations), width, kernel_size=1)
        self.reduce_first = block(first, 48, kernel_size=1)
        self.join_first = block(width + 48, width, kernel_size=3)
        self.reduce_stem = block(stem, 24, kernel_size=1)
        self.join_stem = block(width + 24, width // 2, kernel_size=3)
        self.output = nn.Conv2d(width // 2, out_channels, kernel_size=1)

    def forward(self, maps: list[Tensor], size: list[int]) -> Tensor:
        """Decode encoder maps to logits [query, out_channels, x, y] of the given size."""
        logits = self.output(self.features(maps))
        return interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def features(self, maps: list[Tensor]) -> Tensor:
        """What the class output reads: [query, feature, x', y'] on the grid of the stem."""
        stem, first, last = maps[0], maps[1], maps[2]
        context = self.reduce_context(self.aspp(last))
        context = interpolate(context, size=first.shape[2:], mode="bilinear", align_corners=False)
        context = self.join_first(torch.cat([context, self.reduce_first(first)], dim=1))
        context = interpolate(context, size=stem.shape[2:], mode="bilinear", align_corners=False)
        joined: Tensor = self.join_stem(torch.cat([context, self.reduce_stem(stem)], dim=1))
        return joined
