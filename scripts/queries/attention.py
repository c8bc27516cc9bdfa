"""Attention: the coarse map of one organ, as the extra input channel that makes the network look at that organ.

The paper gives the network "a coarse semantic mask as an additional input channel". Soft probabilities (our default)
keep the coarse network's doubt; a binary map is the public code's form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d


def resized_maps(coarse: Tensor, size: list[int]) -> Tensor:
    """Coarse organ maps [organ, x, y, z] with other numbers of voxels, linear between; float32 whatever they were."""
    return interpolate(coarse.unsqueeze(0).float(), size=size, mode="trilinear", align_corners=False)[0]


def maps_on_slices(coarse: Tensor, depth: int) -> Tensor:
    """Coarse organ maps [organ, x, y, z] on the slices of the volume: [slice, organ, x, y], linear in z.

    In plane the maps keep the coarse grid; patches are sampled from it directly.
    """
    on_slices = resized_maps(coarse, [coarse.shape[1], coarse.shape[2], depth])
    return on_slices.permute(3, 0, 1, 2).contiguous()


class AttentionMap(nn.Module):
    """Turn sampled coarse probabilities into the attention channel.

    Args:
        binary: threshold the map (public code) or keep probabilities (our choice).
        threshold: probability from which a pixel belongs to the organ, when binary.
        dilation: pixels by which the map is grown on every side.

    Shape: [query, 1, x, y] in [0, 1] -> the same.
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
        attention = probability
        if self.binary:
            attention = (attention >= self.threshold).to(probability.dtype)
        if self.dilation > 0:
            attention = max_pool2d(attention, 2 * self.dilation + 1, stride=1, padding=self.dilation)
        return attention


class AttentionPerturbation:
    """Random faults in the attention at training time, so that the network does not trust it blindly (our choice).

    Args:
        shift: largest displacement of the map against the image, in pixels; the sampler applies it.
        grow: largest dilation or erosion radius, in pixels.
        drop_part: probability that a random half-plane of the map is removed.
        drop_all: probability that the whole map is removed.
    """

    def __init__(self, shift: float = 2.0, grow: int = 1, drop_part: float = 0.1, drop_all: float = 0.02) -> None:
        self.shift, self.grow, self.drop_part, self.drop_all = shift, grow, drop_part, drop_all

    def displacements(self, count: int, generator: torch.Generator) -> Tensor:
        """Displacement in pixels for each query: [query, 2]."""
        return (torch.rand(count, 2, generator=generator) * 2 - 1) * self.shift

    def __call__(self, attention: Tensor, generator: torch.Generator) -> Tensor:
        """Perturb maps [query, 1, x, y]."""
        count, perturbed = attention.shape[0], attention.clone()
        change = torch.randint(-self.grow, self.grow + 1, (count,), generator=generator)
        for radius in range(1, self.grow + 1):
            for sign, extreme in ((1, torch.maximum), (-1, torch.minimum)):
                chosen = torch.nonzero(change == sign * radius)[:, 0].to(attention.device)
                if len(chosen):
                    perturbed[chosen] = extreme_around(attention[chosen], radius, extreme)
        return self._drop(perturbed, generator)

    def _drop(self, attention: Tensor, generator: torch.Generator) -> Tensor:
        """Set parts of maps [query, 1, x, y] to 0, in place."""
        count, size, device = attention.shape[0], attention.shape[-2:], attention.device
        angle = torch.rand(count, 1, 1, generator=generator) * 2 * torch.pi
        offset = (torch.rand(count, 1, 1, generator=generator) - 0.5) * 0.25
        part = torch.rand(count, generator=generator) < self.drop_part
        whole = torch.rand(count, generator=generator) < self.drop_all
        x = torch.linspace(-0.5, 0.5, size[0], device=device)[:, None]
        y = torch.linspace(-0.5, 0.5, size[1], device=device)[None, :]
        for n in torch.nonzero(part)[:, 0].tolist():
            half_plane = x * float(angle[n].cos()) + y * float(angle[n].sin()) > float(offset[n])
            attention[n].masked_fill_(half_plane, 0.0)
        attention[whole.to(device)] = 0.0
        return attention


def extreme_around(maps: Tensor, radius: int, extreme: Callable[..., Tensor]) -> Tensor:
    """Largest or smallest value within a square around each pixel of maps [query, 1, x, y]: dilation or erosion.

    What max_pool2d gives, one axis after the other and without its indices: three times as fast on a CPU.

    Args:
        maps: [query, 1, x, y].
        radius: half side of the square.
        extreme: torch.maximum or torch.minimum.
    """
    for axis in (2, 3):
        source, length = maps, maps.shape[axis]
        maps = maps.clone()
        for step in range(1, min(radius, length - 1) + 1):
            for to, of in ((0, step), (step, 0)):
                target = maps.narrow(axis, to, length - step)
                extreme(target, source.narrow(axis, of, length - step), out=target)
    return maps
