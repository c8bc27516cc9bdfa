"""Class scores and label maps from one grid to another, by linear interpolation and the highest class.

One class at a time, only around it, in slabs of slices: memory grows neither with organs nor with full-size scores.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample

SLICES_PER_SLAB = 32
Box = list[tuple[int, int]]  # first voxel and the one after the last, along each of the three axes


def _sampling_points(to_source: Tensor, box: Box, source: Sequence[int]) -> Tensor:
    """Source positions of the target voxels in a box as a normalised grid [1, i, j, k, 3] for grid_sample."""
    places = [torch.arange(first, end).to(to_source) for first, end in box]
    points = torch.empty((1, *map(len, places), 3), dtype=torch.float32, device=to_source.device)
    for axis in range(3):
        position = to_source.new_zeros((1, 1, 1))
        for along, step in enumerate(to_source[axis, :3]):
            if step != 0:  # of grids with the same axes a position is a number a row, not one a voxel
                position = position + step * places[along].reshape([-1 if n == along else 1 for n in range(3)])
        position = position + to_source[axis, 3]
        points[0, ..., 2 - axis] = (position * (2.0 / max(source[axis] - 1, 1)) - 1.0).float()
    return points


def _bounds(scores: Tensor, threshold: float) -> Box | None:
    """Voxels of a map that reach a threshold (of 0: that are positive); None if none does."""
    # Rounding may lift an interpolated mean to the threshold.
    hit, bounds = scores >= threshold - 1e-6 if threshold > 0 else scores > 0, []
    for axis in range(3):
        found = torch.nonzero(hit.amax(dim=[other for other in range(3) if other != axis]))[:, 0].tolist()
        if not found:
            return None
        bounds.append((found[0], found[-1] + 1))
    return bounds


def _reach(bounds: Box | None, source: Sequence[int], to_source: Tensor, shape: Sequence[int]) -> Box:
    """Target voxels where a class can reach a threshold: those within a voxel of scores that do, see `_bounds`.

    An interpolated score is a mean of its neighbours, so elsewhere it is lower. Beyond the score map its border is
    repeated, so a class that touches the border reaches as far as there are target voxels.
    """
    if bounds is None:
        return [(0, 0)] * 3
    beyond = [1e3 * (size + sum(shape)) for size in source]
    low = [first - 1.0 if first > 0 else -far for (first, _), far in zip(bounds, beyond, strict=True)]
    high = [float(bounds[n][1]) if bounds[n][1] < source[n] else beyond[n] for n in range(3)]
    corners = torch.tensor([[*corner, 1.0] for corner in product(*zip(low, high, strict=True))], dtype=torch.float64)
    inside = corners @ torch.linalg.inv(to_source.double().cpu()).T
    first, last = inside.amin(dim=0).floor().tolist(), inside.amax(dim=0).ceil().tolist()
    return [(int(max(first[n], 0)), int(min(max(last[n] + 1, 0), shape[n]))) for n in range(3)]


class _Slab:
    """Slices of the target grid: the highest score so far of every voxel, and its class."""

    def __init__(self, shape: Sequence[int], first: int, threshold: float, device: torch.device) -> None:
        self.first, self.last = first, min(first + SLICES_PER_SLAB, shape[2])
        self.best = torch.full((shape[0], shape[1], self.last - first), threshold, device=device)
        self.winner = torch.zeros(self.best.shape, dtype=torch.uint8, device=device)

    def offer(self, index: int, scores: Tensor, box: Box, to_source: Tensor) -> None:
        """Let a class win where its interpolated score is at least the highest so far; only a box is looked at."""
        x, y, (low, high) = box
        z = max(low, self.first), min(high, self.last)
        if x[0] >= x[1] or y[0] >= y[1] or z[0] >= z[1]:
            return
        points = _sampling_points(to_source.to(scores.device), [x, y, z], scores.shape)
        values = scores[None, None].float()
        sampled = grid_sample(values, points, mode="bilinear", padding_mode="border", align_corners=True)[0, 0]
        part = slice(*x), slice(*y), slice(z[0] - self.first, z[1] - self.first)
        self.winner[part].masked_fill_(sampled >= self.best[part], index)
        torch.maximum(self.best[part], sampled, out=self.best[part])


def resample_classes(
    class_scores: Callable[[int], Tensor],
    classes: Sequence[int],
    source_affine: Tensor,
    target_affine: Tensor,
    target_shape: Sequence[int],
    threshold: float = 0.5,
) -> Tensor:
    """Interpolate class scores linearly onto another grid and keep the highest: [i, j, k] uint8 class indices.

    `class_scores` gives the score map [x, y, z] in [0, 1] of one class, and is called again for every slab. Affines are
    4 x 4, to mm. A class has to reach the threshold to win over background, which is 0 (our choice: .5).
    """
    to_source = torch.linalg.inv(source_affine.double()) @ target_affine.double()
    shape = [int(n) for n in target_shape]
    labels = torch.zeros(shape, dtype=torch.uint8)
    if not classes:
        return labels
    first_map = class_scores(classes[0])
    boxes = {n: _reach(_bounds(class_scores(n), threshold), first_map.shape, to_source, shape) for n in classes}
    for first in range(0, shape[2], SLICES_PER_SLAB):
        slab = _Slab(shape, first, threshold, first_map.device)
        for index in classes:
            slab.offer(index, class_scores(index), boxes[index], to_source)
        labels[:, :, first : slab.last] = slab.winner.cpu()
    return labels


def resample_labels(labels: Tensor, source_affine: Tensor, target_affine: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample a label map [x, y, z] uint8 class by class with linear weights (smoother than nearest neighbour).

    Background is a class like the others: where three organs meet none has half of the weight. Only done around organs.
    """
    to_source = torch.linalg.inv(source_affine.double()) @ target_affine.double()
    shape, source = [int(n) for n in shape], labels.shape
    found = enumerate(ndimage.find_objects(labels.numpy()), start=1)
    organs = {index: box for index, box in found if box is not None}
    boxes = {n: _reach([(s.start, s.stop) for s in box], source, to_source, shape) for n, box in organs.items()}
    reached = list(zip(*boxes.values(), strict=True))
    boxes[0] = [(min(f for f, _ in ends), max(e for _, e in ends)) for ends in reached] or [(0, 0)] * 3
    slabs = [_Slab(shape, first, 0.0, labels.device) for first in range(0, shape[2], SLICES_PER_SLAB)]
    is_class = torch.zeros(source)  # made once, and cleared where it was used
    for index, box in {0: (slice(None),) * 3, **organs}.items():
        is_class[box] = (labels[box] == index).float()
        for slab in slabs:
            slab.offer(index, is_class, boxes[index], to_source)
        is_class[box] = 0.0
    return torch.cat([slab.winner for slab in slabs], dim=2)
