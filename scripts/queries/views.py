"""Views: a batch of query patches cut, resized and augmented by one `grid_sample`.

Windows of different volumes are gathered as small blocks around the query and sampled together. Image and label share
one geometry; the attention follows the same geometry on its own, coarser grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


@dataclass
class RandomGeometry:
    """Random zoom, rotation, shift and reflection of a view.

    The public code magnifies its contrastive views 1.2-1.8x while the segmentation stage sees 1x; our zoom is the same
    for both stages (our choice). It also mirrors, which we do not: left and right organs are separate classes.
    """

    zoom: Sequence[float] = (0.8, 1.25)  # [smallest, largest] magnification
    rotation: float = 15.0  # largest angle in degrees (public code: 30)
    shift: float = 8.0  # largest displacement in pixels of the working grid
    mirror: float = 0.0  # probability of a left-right reflection

    def __post_init__(self) -> None:
        zoom = list(self.zoom)
        if len(zoom) != 2 or not 0 < zoom[0] <= zoom[1]:
            raise ValueError(f"zoom {zoom} is not [smallest, largest] magnification, for example [0.8, 1.25].")

    def __call__(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw for each query the matrix [query, 2, 2] from patch to slice offsets, and the shift [query, 2]."""
        lower, upper = math.log(self.zoom[0]), math.log(self.zoom[1])
        scale = torch.exp(-(torch.rand(count, generator=generator) * (upper - lower) + lower))
        angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(self.rotation)
        mirrored = 1.0 - 2.0 * (torch.rand(count, generator=generator) < self.mirror).float()
        cos, sin = scale * angle.cos(), scale * angle.sin()
        # Axis x runs from left to right: its sign carries the reflection.
        matrix = torch.stack([torch.stack([cos * mirrored, -sin], 1), torch.stack([sin * mirrored, cos], 1)], 1)
        return matrix, (torch.rand(count, 2, generator=generator) * 2 - 1) * self.shift


def farthest_pixel(matrix: Tensor, size: int) -> int:
    """Farthest pixel from the centre, along either axis, that views with these matrices [view, 2, 2] show.

    Example: a patch of 128 pixels that is not turned reaches 64 pixels; magnified 0.8 times, 80.
    """
    return math.ceil(float(matrix.abs().sum(dim=2).max()) * (size - 1) / 2) + 1


def slices_with_neighbours(slices: Tensor, indices: Tensor, adjacent: int, channels: int = 1) -> Tensor:
    """Slices [slice * channel, x, y] at indices with neighbours: [index, (2 * adjacent + 1) * channels, x, y]."""
    offsets = torch.arange(-adjacent, adjacent + 1, device=indices.device)
    wanted = (indices[:, None] + offsets[None, :]).clamp(0, slices.shape[0] // channels - 1)
    if channels > 1:
        within = torch.arange(channels, device=indices.device)
        wanted = (wanted[:, :, None] * channels + within).flatten(1)
    return slices[wanted]


def gather_blocks(
    slices: Sequence[Tensor], centres: Tensor, reach: int, repeat_edge: bool = False, fill: int = 0
) -> tuple[Tensor, Tensor]:
    """Square blocks around the centres [query, 2], given in pixels, of slices [channel, x, y] whose sizes may differ.

    Beyond the slice they are padded with `fill`, or with `repeat_edge` by the outermost pixels. Returned are blocks
    [query, channel, 2 * reach, 2 * reach] and the position of their first pixel [query, 2].
    """
    side, first = 2 * reach, slices[0]
    origins = torch.floor(centres).to(torch.int64) - reach + 1
    blocks = torch.full((len(slices), first.shape[0], side, side), fill, dtype=first.dtype, device=first.device)
    steps = torch.arange(side)
    for block, source, (x, y) in zip(blocks, slices, origins.tolist(), strict=True):
        _, length_x, length_y = source.shape
        if repeat_edge:
            rows, columns = (steps + x).clamp_(0, length_x - 1), (steps + y).clamp_(0, length_y - 1)
            block.copy_(source.index_select(1, rows).index_select(2, columns))
            continue
        x0, x1 = max(x, 0), min(x + side, length_x)
        y0, y1 = max(y, 0), min(y + side, length_y)
        if x0 < x1 and y0 < y1:
            block[:, x0 - x : x1 - x, y0 - y : y1 - y] = source[:, x0:x1, y0:y1]
    return blocks, origins


def sample_patches(
    blocks: Tensor, centres: Tensor, matrix: Tensor, ratio: Tensor, size: int, mode: str = "bilinear"
) -> Tensor:
    """Sample patches [query, channel, size, size] from blocks [query, channel, x, y] with one grid_sample.

    Centres [query, 2] are in block pixels. The matrix [query, 2, 2] leads from patch offsets, in pixels of the working
    grid, to slice offsets; `ratio` [query, 2] is block pixels per working-grid pixel along x and y.
    """
    extent = torch.tensor([blocks.shape[2] - 1, blocks.shape[3] - 1], dtype=torch.float32)
    # grid_sample wants positions in [-1, 1], last axis first.
    unit = 2.0 / extent
    per_step = (matrix * (ratio * unit)[:, :, None]).flip(1).to(blocks.device)
    middle = (centres * unit - 1.0).flip(1).to(blocks.device)
    steps = torch.arange(size, dtype=torch.float32, device=blocks.device) - (size - 1) / 2
    along_x = per_step[:, :, 0, None] * steps + middle[:, :, None]
    along_y = per_step[:, :, 1, None] * steps
    # Coordinates as planes, which are added and read faster than pairs.
    grid = (along_x[:, :, :, None] + along_y[:, :, None, :]).permute(0, 2, 3, 1)
    return grid_sample(blocks, grid, mode=mode, padding_mode="zeros", align_corners=True)


def sample_maps(
    maps: Sequence[Tensor],
    shapes: Sequence[Sequence[int]],
    centres: Tensor,
    matrix: Tensor,
    size: int,
    device: torch.device,
) -> Tensor:
    """Sample probabilities [query, channel, size, size] from coarse maps, which keep their own grid in plane.

    The map of a query is [channel, x', y'] uint8, 255 for probability 1, and covers a slice of `shapes` (x, y) pixels.
    Centres are in pixels of the slices; matrix is as for :func:`sample_patches`.
    """
    ratio = torch.tensor([[m.shape[n + 1] / shape[n] for n in (0, 1)] for m, shape in zip(maps, shapes, strict=True)])
    on_map = (centres + 0.5) * ratio - 0.5
    reach = farthest_pixel(matrix * ratio[:, :, None], size)
    blocks, origins = gather_blocks(maps, on_map, reach, repeat_edge=True)
    return sample_patches(blocks.to(device).float() / 255, on_map - origins, matrix, ratio, size)
