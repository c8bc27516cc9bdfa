"""Attention: the coarse map of one organ, as the extra input channel that makes the network look at that organ.

The paper gives the network "a coarse semantic mask as an additional input channel". Soft probabilities (our default)
keep the coarse network's doubt; a binary map is the public code's form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad


def resized_maps(coarse: Tensor, size: list[int]) -> Tensor:
    """Coarse organ maps [organ, x, y, z] with other numbers of voxels, linear between; float32 whatever they were."""
    if list(coarse.shape[1:]) == size:
        return coarse.float()  # what interpolation gives as well
    return interpolate(coarse.unsqueeze(0).float(), size=size, mode="trilinear", align_corners=False)[0]


def maps_on_slices(coarse: Tensor, depth: int) -> Tensor:
    """Coarse organ maps [organ, x, y, z] -> [slice, organ, x, y], linear in z, in plane on the coarse grid."""
    return resized_maps(coarse, [coarse.shape[1], coarse.shape[2], depth]).permute(3, 0, 1, 2).contiguous()


class AttentionMap(nn.Module):
    """Coarse probabilities [query, 1, x, y] -> the attention channel of the same shape.

    `binary` maps are thresholded (public code); others stay probabilities (our choice). They grow by `dilation` pixels.
    """

    def __init__(self, binary: bool = False, threshold: float = 0.5, dilation: int = 0) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"attention threshold {threshold} is not a probability between 0 and 1, for example 0.5.")
        if dilation < 0:
            raise ValueError(f"attention dilation {dilation} is negative: give a number of pixels, 0 for none.")
        self.binary, self.threshold, self.dilation = bool(binary), float(threshold), int(dilation)

    def forward(self, probability: Tensor) -> Tensor:
        """Apply threshold and dilation."""
        if self.binary:
            probability = (probability >= self.threshold).to(probability.dtype)
        if self.dilation > 0:
            probability = max_pool2d(probability, 2 * self.dilation + 1, stride=1, padding=self.dilation)
        return probability


@dataclass
class AttentionPerturbation:
    """Random faults in the attention at training time, so that the network does not trust it blindly (our choice)."""

    shift: float = 2.0  # largest displacement of the map against the image, in pixels; the sampler applies it
    grow: int = 1  # largest radius of dilation or erosion, in pixels
    drop_part: float = 0.1  # probability that a random half-plane of the map is removed
    drop_all: float = 0.02  # probability that the whole map is removed

    def displacements(self, count: int, generator: torch.Generator) -> Tensor:
        """Displacement in pixels for each query: [query, 2]."""
        return (torch.rand(count, 2, generator=generator) * 2 - 1) * self.shift

    def __call__(self, attention: Tensor, generator: torch.Generator) -> Tensor:
        """Perturb maps [query, 1, x, y]."""
        perturbed = attention.clone()
        change = torch.randint(-self.grow, self.grow + 1, (len(attention),), generator=generator)
        for radius in range(1, self.grow + 1):
            for sign, extreme in ((1, torch.maximum), (-1, torch.minimum)):
                chosen = torch.nonzero(change == sign * radius)[:, 0].to(attention.device)
                if len(chosen):
                    perturbed[chosen] = extreme_around(attention[chosen], radius, extreme)
        return self._drop(perturbed, generator)

    def _drop(self, attention: Tensor, generator: torch.Generator) -> Tensor:
        """Set parts of maps [query, 1, x, y] to 0, in place."""
        count, device = len(attention), attention.device
        angle = torch.rand(count, 1, 1, generator=generator) * 2 * torch.pi
        offset = (torch.rand(count, 1, 1, generator=generator) - 0.5) * 0.25
        part = torch.nonzero(torch.rand(count, generator=generator) < self.drop_part)[:, 0]
        whole = torch.nonzero(torch.rand(count, generator=generator) < self.drop_all)[:, 0]
        x, y = (torch.linspace(-0.5, 0.5, size) for size in attention.shape[2:])
        half_plane = x[:, None] * angle[part].cos() + y * angle[part].sin() > offset[part]
        attention[part.to(device)] *= ~half_plane[:, None].to(device)
        attention[whole.to(device)] = 0.0
        return attention


def extreme_around(maps: Tensor, radius: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Largest or smallest value in the square around each pixel of maps [query, 1, x, y]: dilation or erosion.

    `extreme`: torch.maximum or torch.minimum; `radius`: half the side. Three times as fast on a CPU as max_pool2d.
    """
    for axis, border in ((2, [0, 0, radius, radius]), (3, [radius, radius, 0, 0])):
        padded, length = pad(maps, border, mode="replicate"), maps.shape[axis]
        maps = reduce(extreme, [padded.narrow(axis, step, length) for step in range(2 * radius + 1)])
    return maps
