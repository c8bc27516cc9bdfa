"""The working grid: one orientation and one spacing for every scan, and the way back to the scan's own grid.

Scans come in any orientation and spacing. Both stages work on a *working grid* (axes R, A, S; a fixed spacing in mm),
and the fused labels return to the scan's own grid exactly: same shape, same affine. The way back interpolates the class
*scores* linearly and takes the argmax afterwards, one class at a time, only around it, and a slab of slices at a time,
so that memory depends neither on the number of organs nor on a full-resolution copy of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Orientation, Spacing, Transform
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample

from scripts.preprocessing.largest_part import without_other_parts
from scripts.preprocessing.organ_labels import as_volume

HOUNSFIELD_AIR = -1000.0
MAX_GRID_VOXELS = 2**29
"""Of the working grid: 2 GiB of float32, twice a whole body at 1.5 mm; our choice."""
SLICES_PER_SLAB = 32
WORLD_AXES = (("L", "R"), ("P", "A"), ("I", "S"))
"""World axes of every affine here, named and not left to the metadata: MONAI Deploy calls its right-anterior-superior
affines "LPS", and MONAI would believe it and turn the patient around, left organs to the right."""


def check_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the spacing (mm, axes R, A, S) as a tuple, or raise ValueError when it is not three positive numbers."""
    if len(spacing) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing):
        raise ValueError(
            f"spacing {list(spacing)} is not a voxel size: give three positive numbers in mm for the axes "
            "right-left, anterior-posterior, superior-inferior, for example [1.5, 1.5, 3.0]."
        )
    x, y, z = (float(mm) for mm in spacing)
    return x, y, z


class ToWorkingGrid(Transform):
    """Reorient a scan to R, A, S axes and resample it linearly to a fixed spacing.

    Args:
        spacing: voxel size in mm along R-L, A-P, S-I.

    Input: [channel, i, j, k] ``MetaTensor`` in HU, any orientation, or a photograph [channel, i, j], whose spacing is
    in pixels. Output: [channel, x, y, z] float32.
    """

    def __init__(self, spacing: Sequence[float]) -> None:
        self.spacing = check_spacing(spacing)
        self.resample = Compose(
            [
                Orientation(axcodes="RAS", labels=WORLD_AXES),
                Spacing(pixdim=self.spacing, mode="bilinear", padding_mode="border", dtype=np.float32),
            ]
        )

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """Resample one scan."""
        volume = as_volume(image)
        self._refuse_huge_grid(volume)
        resampled: MetaTensor = self.resample(volume)
        return resampled

    def _refuse_huge_grid(self, volume: MetaTensor) -> None:
        affine, shape = np.abs(np.asarray(volume.affine)[:3, :3]), [int(n) for n in volume.shape[1:]]
        voxels = float(np.prod(np.ceil(affine @ shape / self.spacing) + 1))
        # Negated, so that a NaN is refused as well.
        if not voxels <= MAX_GRID_VOXELS:
            raise ValueError(
                f"{volume.meta.get('filename_or_obj', 'the scan')}: {voxels:.3g} voxels on the working grid of "
                f"{self.spacing} mm, at most {MAX_GRID_VOXELS:.3g} are worked on; check the voxel size in its header, "
                "cut the scan, or choose a wider spacing."
            )


class ToWorkingGridd(MapTransform):
    """Dictionary wrapper of :class:`ToWorkingGrid`.

    MONAI's own ``Spacingd`` writes into every key that begins with ``image_``, which breaks in MONAI Label (1.6.x);
    this wrapper touches only its keys.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_working_grid = ToWorkingGrid(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample the scans under the keys."""
        resampled = dict(data)
        for key in self.key_iterator(resampled):
            resampled[key] = self.to_working_grid(resampled[key])
        return resampled


Box = list[tuple[int, int]]
"""First voxel and the one after the last, along each of the three axes."""


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
        sampled = grid_sample(
            scores[None, None].float(), points, mode="bilinear", padding_mode="border", align_corners=True
        )[0, 0]
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

    Args:
        class_scores: gives the score map [x, y, z] in [0, 1] of one class; called again for every slab.
        classes: class indices to consider; background (0) is what no class wins.
        source_affine: 4 x 4 voxel-to-world matrix of the score maps (mm).
        target_affine: the same of the wanted grid.
        target_shape: voxels of the wanted grid.
        threshold: a class has to reach it to win over background (our choice: .5, the argmax of a binary map).
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

    Background is a class like the others here: where three organs meet none of them has half of the weight. Only around
    organs is anything computed.
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


class ScoresToScanLabelsd(MapTransform):
    """Class scores on the working grid -> label map on the scan's own grid.

    Args:
        keys: the scores, [class, x, y, z], background first.
        reference: the image key; its meta data know the working affine and the scan's original affine and shape.
        threshold: score that a class has to reach.
        background: let the background's own score compete with the classes; then a threshold of 0 gives the argmax.
        organs: names of the classes 1, 2, ...
        one_piece: organs of which only the largest connected part is kept; names that are none of `organs` do nothing.

    The result is [1, i, j, k] uint8 with the scan's affine, ready for ``SaveImaged(resample=False)``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "image",
        allow_missing_keys: bool = False,
        threshold: float = 0.5,
        background: bool = False,
        organs: Sequence[str] = (),
        one_piece: Sequence[str] = (),
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference, self.threshold, self.background = reference, threshold, background
        self.one_piece = [index for index, organ in enumerate(organs, start=1) if organ in one_piece]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the labels under the keys."""
        restored = dict(data)
        meta = data[self.reference].meta
        scan_affine = torch.as_tensor(np.asarray(meta["original_affine"]))
        scan_shape = [int(n) for n in np.asarray(meta["spatial_shape"]).ravel()[:3]]
        for key in self.key_iterator(restored):
            scores = torch.as_tensor(restored[key]).detach()
            broken = int((~torch.isfinite(scores)).sum())
            if broken:
                raise ValueError(
                    f"{meta.get('filename_or_obj', 'the scan')}: {broken} of {scores.numel()} class scores of the "
                    "predictor are not finite; check the weights, or run with precision float32."
                )
            scores = without_other_parts(scores, self.one_piece, self.threshold, self.background)
            first = 0 if self.background else 1
            found = [index for index in range(first, scores.shape[0]) if bool((scores[index] > 0).any())]
            labels = resample_classes(
                scores.__getitem__, found, data[self.reference].affine, scan_affine, scan_shape, self.threshold
            )
            kept = {name: value for name, value in meta.items() if name != "affine"}
            restored[key] = MetaTensor(labels[None], affine=scan_affine, meta=kept)
        return restored
