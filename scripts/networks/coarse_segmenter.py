"""Coarse segmentation: a 3D network on a coarse grid finds the organs (public code: 3D U-Net at 2 x 2 x 6 mm)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from scripts.preprocessing.working_grid import check_spacing


def _tiles(size: int, largest: int, overlap: float) -> list[list[int]]:
    """First voxel and end of the fewest tiles that cover a length; neighbours share at least `overlap` of the largest.

    They are as small as their number allows, because every voxel that two tiles share is computed twice. Example: 160
    voxels in tiles of at most 96, a quarter shared, are [0, 92] and [68, 160].
    """
    if size <= largest:
        return [[0, size]]
    shared = int(largest * overlap)
    step = max(1, largest - shared)
    count = (size - shared + step - 1) // step
    tile = (size + (count - 1) * shared + count - 1) // count
    starts = [(size - tile) * n // (count - 1) for n in range(count)]
    return [[start, start + tile] for start in starts]


class CoarseSegmenter(nn.Module):
    """Windowed volume [x, y, z] or [channel, x, y, z] in [0, 1] -> organ probabilities [organ, x', y', z'], float16.

    The network has organs + 1 output channels, background first. It predicts tiles of at most `tile` coarse voxels
    (None: the whole volume), which share at least the `overlap` of the largest tile and are averaged. Each is padded to
    a `multiple`, the network's total stride along all axes or along each. Spacings are in mm.
    """

    def __init__(
        self,
        network: nn.Module,
        spacing: Sequence[float],
        coarse_spacing: Sequence[float],
        tile: Sequence[int] | None = None,
        overlap: float = 0.25,
        multiple: int | Sequence[int] = 8,
    ) -> None:
        super().__init__()
        fine, coarse = check_spacing(spacing), check_spacing(coarse_spacing)
        self.network = network
        self.register_buffer("spacing", torch.tensor(fine), persistent=False)  # tells weights of another grid
        self.ratio = [f / c for f, c in zip(fine, coarse, strict=True)]
        self.tile = [2**30] * 3 if tile is None else [int(n) for n in tile]
        self.overlap = float(overlap)
        self.multiple = [multiple] * 3 if isinstance(multiple, int) else [int(n) for n in multiple]

    def grid_size(self, shape: list[int]) -> list[int]:
        """Voxels of the coarse grid for a working-grid volume."""
        return [max(1, int(round(shape[n] * self.ratio[n]))) for n in range(3)]

    def to_coarse_grid(self, image: Tensor) -> Tensor:
        """Average a working-grid volume [channel, x, y, z] over coarse voxels."""
        size = self.grid_size([image.shape[1], image.shape[2], image.shape[3]])
        return interpolate(image[None], size=size, mode="area")[0]

    def forward(self, image: Tensor) -> Tensor:
        """Find the organs."""
        volume = self.to_coarse_grid(image[None] if image.dim() == 3 else image)
        x, y, z = volume.shape[1], volume.shape[2], volume.shape[3]
        total = torch.zeros(0, device=volume.device)
        count = torch.zeros([x, y, z], dtype=torch.half, device=volume.device)  # of one type: nothing is copied
        for i, i_end in _tiles(x, self.tile[0], self.overlap):
            for j, j_end in _tiles(y, self.tile[1], self.overlap):
                for k, k_end in _tiles(z, self.tile[2], self.overlap):
                    found = self._predict(volume[:, i:i_end, j:j_end, k:k_end])
                    if total.numel() == 0:
                        total = torch.zeros([found.shape[0], x, y, z], dtype=torch.half, device=volume.device)
                    total[:, i:i_end, j:j_end, k:k_end] += found
                    count[i:i_end, j:j_end, k:k_end] += 1.0
        return total.div_(count)

    def _predict(self, part: Tensor) -> Tensor:
        """Organ probabilities [organ, x, y, z] of one tile."""
        x, y, z = part.shape[1], part.shape[2], part.shape[3]
        padded = pad(part[None], [0, -z % self.multiple[2], 0, -y % self.multiple[1], 0, -x % self.multiple[0]])
        probabilities = torch.softmax(self.network(padded).float(), dim=1)
        return probabilities[0, 1:, :x, :y, :z]
