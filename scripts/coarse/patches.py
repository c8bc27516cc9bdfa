"""Batches of 3D patches for the coarse stage, on the coarse grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import RandomIntensity, check_window, soft_tissue_window
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.views import RandomGeometry
from scripts.runtime.streams import Batch, BatchStream, in_turns

NEAR = 0.6  # a patch around an organ is moved by at most this share of its side, so that the chosen voxel stays inside


class CoarsePatches(BatchStream):
    """Random 3D patches with their labels and which organs were contoured.

    Most patches lie around a voxel of an organ, and organs take turns: an organ of some hundred voxels is then learned
    as soon as a large one. The rest lie anywhere, so that the network also knows what is no organ (our choice).

    `patch_size` is in voxels of the coarse grid, the window in HU, and `organ_share`, in [0, 1], is that of the patches
    around an organ. The geometry zooms all axes, and rotates and mirrors in plane. `device` keeps the scans and cuts
    the patches; cases without a label are left out.

    Batches: image [patch, channel, x, y, z] in [0, 1], label [patch, 1, x, y, z], annotated [patch, 1 + organs] bool.
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
        organ_share: float = 0.8,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed)
        self.device = torch.device(device)
        if not 0 <= organ_share <= 1:
            raise ValueError(f"organ_share {organ_share} is no share of the patches: give a number in [0, 1].")
        self.organ_share = float(organ_share)
        self.data = [case for case in data if case.get("label")]
        self.store, self.segmenter = store, segmenter
        self.lower, self.upper = check_window(window)
        fitting = [-(-int(n) // m) * m for n, m in zip(patch_size, segmenter.multiple, strict=True)]
        if fitting != list(patch_size):
            given = f"coarse patch_size {list(patch_size)} does not fit a total stride of {segmenter.multiple} voxels"
            raise ValueError(f"{given}: give multiples of it, for example {fitting}.")
        self.patch_size, self.batch_size = [int(n) for n in patch_size], self.share(batch_size)
        self.geometry, self.intensity = geometry, intensity
        self._volumes: dict[int, tuple[Tensor, Tensor]] = {}
        self._voxels: dict[tuple[int, int], Tensor] = {}
        self._showing: dict[int, list[int]] = {}

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        """Draw cases and places, cut the patches."""
        drawn = [self._draw(organ, generator) for organ in in_turns(self._organs(), self.batch_size, generator)]
        matrix, _ = self.geometry(self.batch_size, generator)
        patches = [self._cut(*self._volume(n), matrix[i], centre) for i, (n, centre) in enumerate(drawn)]
        image, label = (torch.stack(part) for part in zip(*patches, strict=True))
        if self.intensity is not None:
            image = self.intensity(image, generator)
        contoured = [self.store.open(self.data[number]).annotated for number, _ in drawn]
        annotated = [[index in organs for index in range(1 + len(self.store.organs))] for organs in contoured]
        return {"image": image, "label": label, "annotated": torch.tensor(annotated)}

    def _organs(self) -> list[int]:
        """Organs that some case was contoured for, with those cases kept in `_showing`."""
        if not self._showing:
            for number, case in enumerate(self.data):
                for organ in self.store.open(case).annotated:
                    self._showing.setdefault(organ, []).append(number)
        return sorted(self._showing)

    def _draw(self, organ: int, generator: torch.Generator) -> tuple[int, Tensor]:
        """A case and the centre of a patch [x, y, z]: near the organ, or anywhere."""
        near = float(torch.rand(1, generator=generator)) < self.organ_share
        cases = self._showing[organ] if near else range(len(self.data))
        number = cases[int(torch.randint(len(cases), (1,), generator=generator))]
        slices, *plane = self._volume(number)[1].shape
        shape, wanted = torch.tensor([*plane, slices]).float(), torch.tensor(self.patch_size).float()
        # Patches stay inside of the volume; an axis shorter than the patch is centred and padded with air.
        room = (shape - wanted).clamp(min=0)
        first, place = (shape - 1 - room) / 2, torch.rand(3, generator=generator)
        voxels = self._voxels_of(number, organ) if near else ()
        if len(voxels) == 0:  # also an organ that the scan does not reach
            return number, first + place * room
        voxel = voxels[int(torch.randint(len(voxels), (1,), generator=generator))]
        centre = voxel + (place - 0.5) * NEAR * wanted
        return number, torch.minimum(torch.maximum(centre, first), first + room)

    def _voxels_of(self, number: int, organ: int) -> Tensor:
        """Voxels [voxel, 3] of an organ, x y z; looked for once."""
        if (number, organ) not in self._voxels:
            label = self._volume(number)[1].permute(1, 2, 0)
            self._voxels[number, organ] = torch.nonzero(label == organ).to("cpu", torch.int16)
        return self._voxels[number, organ]

    def _volume(self, number: int) -> tuple[Tensor, Tensor]:
        """Image [z, channel, x, y] and label [z, x, y] on the coarse grid, kept on the device as float16 and uint8."""
        if number not in self._volumes:
            stored = self.store.open(self.data[number])
            if stored.label is None:
                raise ValueError(f"case {stored.name} has no label, the coarse stage cannot train on it.")
            hu, classes = stored.volume().to(self.device), stored.label.permute(1, 2, 0).to(self.device)
            image = self.segmenter.to_coarse_grid(soft_tissue_window(hu.float(), self.lower, self.upper))
            label = classes[None, None].float()
            coarse = interpolate(label, size=list(image.shape[1:]), mode="nearest-exact")[0, 0]
            slices_first = image.half().movedim(-1, 0), coarse.to(torch.uint8).movedim(-1, 0)
            self._volumes[number] = slices_first[0].contiguous(), slices_first[1].contiguous()
        return self._volumes[number]

    def _cut(self, image: Tensor, label: Tensor, matrix: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """The patch around a centre, with air beyond the volume: its slices are cut in plane, then interpolated.

        Nothing is tilted, so that this is linear interpolation in all three axes at a fifth of its time.
        """
        slices, *plane = label.shape
        x, y, z = (torch.arange(n) - (n - 1) / 2 for n in self.patch_size)
        grid = (torch.stack(torch.meshgrid(x, y, indexing="ij"), -1) @ matrix.T + centre[:2]) * 2
        grid = (grid / torch.tensor([max(n - 1, 1) for n in plane]) - 1).flip(-1)[None].to(image.device)
        z = z * float(matrix.det().abs().sqrt()) + centre[2]
        first, end = max(int(z[0].floor()), 0), min(int(z[-1].floor()) + 2, slices)
        shares = (1 - (z[:, None] - torch.arange(first, end)).abs()).clamp(min=0).to(image.device)
        cut = grid_sample(image[first:end].flatten(0, 1)[None].float(), grid, align_corners=True)[0]
        patch = torch.einsum("zs,scxy->cxyz", shares, cut.unflatten(0, (end - first, -1)))
        nearest = z.round().long().to(image.device)
        chosen = label.index_select(0, nearest.clamp(0, slices - 1))[None].float()
        target = grid_sample(chosen, grid, mode="nearest", align_corners=True)
        target[:, (nearest < 0) | (nearest >= slices)] = 0
        return patch, target.movedim(1, -1)
