"""Somebody else's 3D network on the working grid, as a bar outside of the method: batches and predictor.

An image is a slice of a patch: so budgets in images compare. It is as large as a query patch, or larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scripts.coarse.maps import CoarseMaps
from scripts.coarse.patches import CoarsePatches
from scripts.coarse.segmenter import CoarseSegmenter
from scripts.inference.predictor import check_volume, encode_names
from scripts.preprocessing.intensity import RandomIntensity, check_window, soft_tissue_window
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import RandomGeometry

SMALLEST_SIDE = 64


class VolumeBatches(CoarsePatches):
    """Random 3D patches on the grid of the network. Takes the arguments of the query batches.

    Args:
        data: case dictionaries; those without a label are left out.
        store: slices of the cases.
        maps: only its segmenter is asked, for the grid of the network.
        planner: only its patch size is asked, for the in-plane side of a patch (`patch_side`).
        attention: not used.
        window: soft-tissue window in HU.
        batch_size: images in a batch, a multiple of `depth`.
        geometry: random zoom (all axes), rotation and mirroring in plane.
        adjacent_slices: not used, a patch has its slices.
        intensity: random intensities; None for none.
        perturbation: not used.
        device: where patches are cut.
        seed: of the stream.
        depth: slices of a patch.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        store: SliceStore,
        maps: CoarseMaps,
        planner: QueryPlanner,
        attention: object,
        window: Sequence[float],
        batch_size: int,
        geometry: RandomGeometry,
        adjacent_slices: int = 0,
        intensity: RandomIntensity | None = None,
        perturbation: object = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        depth: int = 32,
    ) -> None:
        if batch_size % depth or batch_size < depth:
            raise ValueError(f"{batch_size} images are no whole number of patches of {depth} slices: give a multiple.")
        super().__init__(
            data,
            store,
            maps.segmenter,
            window,
            patch_size=[patch_side(planner.patch_size)] * 2 + [depth],
            batch_size=batch_size // depth,
            geometry=geometry,
            intensity=intensity,
            seed=seed,
            device=device,
        )


def patch_side(window: int) -> int:
    """Pixels of a 3D patch along x and y: those of a query window, at least 64.

    Windows are cut around an organ that is known already; a 3D network has to find it (our choice).
    """
    return max(SMALLEST_SIDE, window)


class VolumePredictor(nn.Module):
    """A 3D network as the predictor. Takes the arguments of the two-stage predictor.

    Args:
        organs: organ names in the order of their class indices.
        window: soft-tissue window in HU.
        coarse: the network, tile by tile, on a grid that is the working grid.
        attention: not used, nor are those that follow.
        planner: not used.
        segmenter: not used, and not part of the weights.
        adjacent_slices: not used.
        batch_size: not used.
        coarse_weight: not used.
        image_channels: 1; photographs have no third axis for it.

    forward: [batch, 1, x, y, z] in HU on the working grid -> [batch, 1 + organs, x, y, z] in [0, 1].
    """

    def __init__(
        self,
        organs: Sequence[str],
        window: Sequence[float],
        coarse: CoarseSegmenter,
        attention: object = None,
        planner: object = None,
        segmenter: object = None,
        adjacent_slices: int = 0,
        batch_size: int = 1,
        coarse_weight: float = 0.0,
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        if image_channels != 1:
            raise ValueError(f"a 3D network is a baseline for CT; image_channels is {image_channels}: leave it at 1.")
        if any(ratio != 1 for ratio in coarse.ratio):
            raise ValueError("the network has to work on the working grid: set coarse_spacing to the spacing.")
        self.coarse = coarse
        self.lower, self.upper = check_window(window)
        self.register_buffer("organ_names", encode_names(organs))

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        check_volume(volume)
        return torch.stack([self._scores(volume[n, 0]) for n in range(volume.shape[0])])

    def _scores(self, hu: Tensor) -> Tensor:
        organs = self.coarse(soft_tissue_window(hu.float(), self.lower, self.upper)).float()
        return torch.cat([1.0 - organs.sum(dim=0, keepdim=True), organs])
