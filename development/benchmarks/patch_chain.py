"""The usual way to the same patches: a MONAI CacheDataset and one chain of transforms per patch.

Volumes and attention lie in memory on the working grid, already windowed, which is in the chain's favour.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import (
    Compose,
    ConcatItemsd,
    MapTransform,
    RandAffined,
    RandGaussianNoised,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import RandomSampler

from development.baselines.slice_batches import reach_of
from scripts.preprocessing.intensity import RandomIntensity, soft_tissue_window
from scripts.queries.attention import AttentionPerturbation
from scripts.queries.batches import QueryBatches
from scripts.queries.views import RandomGeometry

KEYS = ("image", "label", "attention")


class CacheCased(MapTransform):
    """What is cached of a case: image and attention [channel, slice, x, y] float, label, and its queries."""

    def __init__(self, batches: QueryBatches) -> None:
        super().__init__(keys=KEYS)
        self.batches = batches

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Open a case by its number."""
        number, batches = int(data["number"]), self.batches
        stored, maps = batches.store.open(batches.data[number]), batches.maps.of(batches.data[number])
        if stored.label is None:
            raise ValueError(f"case {stored.name} has no label: the benchmark needs contoured cases.")
        size = list(stored.image.shape[1:])
        attention = interpolate(maps.float() / 255, size=size, mode="bilinear", align_corners=False)
        groups = batches.index.groups
        return {
            "image": soft_tissue_window(stored.image.float(), batches.lower, batches.upper),
            "label": stored.label.clone(),
            "attention": attention,
            "plan": {organ: plan for organ, group in groups.items() for case, plan in group if case == number},
        }


class RandQueryCropd(Randomizable, MapTransform):
    """A random query of a case: the block of its slice that any view of it can show, organ by organ as channels.

    Args:
        patch: side of a patch.
        reach: half side of the block.
    """

    def __init__(self, patch: int, reach: int) -> None:
        super().__init__(keys=KEYS)
        self.patch, self.reach = patch, reach

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop image, label and attention [1, x, y]."""
        organs = sorted(data["plan"])
        organ = organs[self.R.randint(len(organs))]
        plan = data["plan"][organ]
        z, _, x, y = plan[self.R.randint(len(plan))].tolist()
        middle = (x + self.patch // 2, y + self.patch // 2)
        return {
            "image": self._block(data["image"][z], middle),
            "label": (self._block(data["label"][z], middle) == organ).float(),
            "attention": self._block(data["attention"][z, organ - 1], middle),
        }

    def _block(self, plane: Tensor, middle: tuple[int, int]) -> Tensor:
        """Square block [1, x, y] around a pixel, zeros beyond the slice."""
        side = 2 * self.reach
        block = torch.zeros((1, side, side), dtype=plane.dtype)
        (x, x0, x1), (y, y0, y1) = (
            (first, max(first, 0), min(first + side, length))
            for first, length in zip((m - self.reach for m in middle), plane.shape, strict=True)
        )
        block[0, x0 - x : x1 - x, y0 - y : y1 - y] = plane[x0:x1, y0:y1]
        return block


class RandAttentionFaultsd(MapTransform):
    """The bundle's random faults of the attention, patch by patch.

    Args:
        perturbation: perturbation of the batches.
    """

    def __init__(self, perturbation: AttentionPerturbation) -> None:
        super().__init__(keys="attention")
        self.perturbation, self.generator = perturbation, torch.Generator().manual_seed(0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Perturb the attention [1, x, y]."""
        return {**data, "attention": self.perturbation(data["attention"][None], self.generator)[0]}


def patch_chain(batches: QueryBatches, geometry: RandomGeometry, intensity: RandomIntensity) -> Compose:
    """Case number -> augmented patch, with the ranges of the training config."""
    patch = batches.planner.patch_size
    scale = (1 / geometry.zoom[1] - 1, 1 / geometry.zoom[0] - 1)
    return Compose(
        [
            CacheCased(batches),
            RandQueryCropd(patch, reach_of(geometry, patch)),
            RandAffined(
                KEYS,
                spatial_size=(patch, patch),
                prob=1.0,
                rotate_range=np.deg2rad(geometry.rotation),
                translate_range=(geometry.shift, geometry.shift),
                scale_range=[scale, scale],
                mode=("bilinear", "nearest", "bilinear"),
                padding_mode="zeros",
            ),
            *([] if batches.perturbation is None else [RandAttentionFaultsd(batches.perturbation)]),
            RandScaleIntensityd("image", intensity.contrast, prob=1.0),
            RandShiftIntensityd("image", intensity.brightness, prob=1.0),
            RandGaussianNoised("image", prob=1.0, std=intensity.noise),
            ConcatItemsd(("image", "attention"), "image"),
        ]
    )


def chain_loader(batches: QueryBatches, batch_size: int) -> DataLoader:
    """Loader of one batch of random queries, everything deterministic cached in memory.

    Raises:
        ValueError: if the batches are not augmented, because the chain would then do more than they do.
    """
    if batches.geometry is None or batches.intensity is None:
        raise ValueError("the batches have no augmentation: give them a geometry and an intensity, as the config does.")
    numbers: Sequence[dict[str, int]] = [{"number": number} for number in range(len(batches.data))]
    chain = patch_chain(batches, batches.geometry, batches.intensity)
    cached = CacheDataset(numbers, chain, cache_rate=1.0, num_workers=1, progress=False, copy_cache=False)
    sampler = RandomSampler(cached, replacement=True, num_samples=batch_size)
    return DataLoader(cached, batch_size=batch_size, sampler=sampler, num_workers=0)
