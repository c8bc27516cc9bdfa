"""Scans that are broken on purpose, on the working grid: axes R, A, S and HU."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from scripts.preprocessing.working_grid import HOUNSFIELD_AIR

KINDS = ("upside down", "prone", "mirrored", "HU + 1024", "heavy noise", "a quarter blank")
OFFSET, NOISE = 1024.0, 200.0
"""HU; the noise is the standard deviation of a voxel of the working grid. Our choice."""
AIR, ROOM = -900.0, 6
"""HU below which a voxel is outside of the body, and voxels of air that are kept around it."""


def without_air(image: MetaTensor) -> MetaTensor:
    """A scan [1, x, y, z] without most of the air at its sides, which takes time and has no organs."""
    inside, box = (image[0] > AIR).any(dim=2), []
    for axis in (0, 1):
        places = inside.any(dim=1 - axis).nonzero()[:, 0].tolist() or [0]
        box.append(slice(max(0, places[0] - ROOM), places[-1] + ROOM + 1))
    return MetaTensor(image.as_tensor()[:, box[0], box[1]].contiguous(), affine=image.affine)


def broken(image: Tensor, kind: str, seed: int = 0) -> Tensor:
    """Break a scan [1, x, y, z].

    Upside down and mirrored are reversed along one axis, so that left and right change as well; prone is turned by
    180 degrees about the axis of the body. The blank quarter are neighbouring slices of air, anywhere in the scan.
    """
    random = torch.Generator().manual_seed(seed)
    if kind == "upside down":
        return image.flip(3)
    if kind == "prone":
        return image.flip(1, 2)
    if kind == "mirrored":
        return image.flip(1)
    if kind == "HU + 1024":
        return image + OFFSET
    if kind == "heavy noise":
        return image + NOISE * torch.randn(image.shape, generator=random)
    if kind == "a quarter blank":
        count = -(-image.shape[3] // 4)
        first = int(torch.randint(image.shape[3] - count + 1, (), generator=random))
        spoilt = image.clone()
        spoilt[..., first : first + count] = HOUNSFIELD_AIR
        return spoilt
    raise ValueError(f"kind '{kind}' is unknown: give one of {', '.join(KINDS)}.")
