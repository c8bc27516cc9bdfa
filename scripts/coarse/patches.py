"""Batches of 3D patches for the coarse stage, on the coarse grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from scripts.coarse.segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import RandomIntensity, check_window, soft_tissue_window
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.views import RandomGeometry
from scripts.training.streams import Batch, BatchStream


class CoarsePatches(BatchStream):
    """Random 3D patches with their labels and which organs were contoured.

    Args:
        data: case dictionaries, labelled.
        store: their slices.
        segmenter: knows the coarse grid.
        window: soft-tissue window in HU.
        patch_size: voxels of a patch on the coarse grid.
        batch_size: patches in a batch.
        geometry: random zoom (all axes), rotation and mirroring in plane.
        intensity: random intensities; None for none.
        seed: of the stream.

    A batch has image [patch, 1, x, y, z] in [0, 1], label [patch, 1, x, y, z], annotated [patch, 1 + organs] bool.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        store: SliceStore,
        segmenter: CoarseSegmenter,
        window: Sequence[float],
        patch_size: Sequence[int],
        batch_size: int,
        geometry: RandomGeometry,
        intensity: RandomIntensity | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.data = [case for case in data if case.get("label")]
        self.store, self.segmenter = store, segmenter
        self.lower, self.upper = check_window(window)
        self.patch_size, self.batch_size = [int(n) for n in patch_size], int(batch_size)
        self.geometry, self.intensity = geometry, intensity
        self._volumes: dict[int, tuple[Tensor, Tensor]] = {}

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        """Draw cases and places, cut the patches."""
        chosen = torch.randint(len(self.data), (self.batch_size,), generator=generator).tolist()
        matrix, _ = self.geometry(self.batch_size, generator)
        patches = [self._cut(*self._volume(n), matrix[i], generator) for i, n in enumerate(chosen)]
        image, label = (torch.stack(part) for part in zip(*patches, strict=True))
        if self.intensity is not None:
            image = self.intensity(image, generator)
        return {"image": image, "label": label, "annotated": torch.stack([self._annotated(n) for n in chosen])}

    def _annotated(self, number: int) -> Tensor:
        contoured = torch.zeros(len(self.store.organs) + 1, dtype=torch.bool)
        contoured[list(self.store.open(self.data[number]).annotated)] = True
        return contoured

    def _volume(self, number: int) -> tuple[Tensor, Tensor]:
        """Image and label [x, y, z] of a case on the coarse grid, kept in memory as float16 and uint8."""
        if number not in self._volumes:
            stored = self.store.open(self.data[number])
            if stored.label is None:
                raise ValueError(f"case {stored.name} has no label, the coarse stage cannot train on it.")
            hu = stored.image.permute(1, 2, 0).float()
            image = self.segmenter.to_coarse_grid(soft_tissue_window(hu, self.lower, self.upper))
            label = stored.label.permute(1, 2, 0)[None, None].float()
            coarse = interpolate(label, size=list(image.shape), mode="nearest-exact")[0, 0]
            self._volumes[number] = image.half(), coarse.to(torch.uint8)
        return self._volumes[number]

    def _cut(self, image: Tensor, label: Tensor, matrix: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One patch at a random place; an axis shorter than the patch is centred and padded with air."""
        shape = torch.tensor(image.shape, dtype=torch.float32)
        wanted = torch.tensor(self.patch_size, dtype=torch.float32)
        room = (shape - wanted).clamp(min=0)
        centre = (shape - 1 - room) / 2 + torch.rand(3, generator=generator) * room
        steps = [torch.arange(n) - (n - 1) / 2 for n in self.patch_size]
        x, y, z = torch.meshgrid(*steps, indexing="ij")
        zoom = matrix.det().abs().sqrt()
        points = torch.stack([matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y, z * zoom], -1)
        grid = (((points + centre) * 2 / (shape - 1).clamp(min=1)) - 1).flip(-1)[None]
        patch = grid_sample(image[None, None].float(), grid, padding_mode="zeros", align_corners=True)[0]
        target = grid_sample(label[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True)
        return patch, target[0]


def coarse_targets(batch: Batch, device: torch.device, non_blocking: bool, **_: Any) -> tuple[Tensor, Batch]:
    """MONAI's prepare_batch for the coarse stage: patches, and label with the contoured organs."""
    targets = {key: batch[key].to(device, non_blocking=non_blocking) for key in ("label", "annotated")}
    return batch["image"].to(device, non_blocking=non_blocking), targets
