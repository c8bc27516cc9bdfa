"""A scan of a few slices on its own working grid, with coarse maps that a test knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_dataset import ORGANS, Case, write_case
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scripts.preprocessing.slice_store import SliceStore, save_array
from scripts.queries.coarse_maps import CoarseMaps

SPACING = [2.0, 2.0, 3.0]
"""That of the scans of tiny_dataset, so that the working grid is their own grid."""
WINDOW = [-175.0, 275.0]


class KnownCoarse(nn.Module):
    """A coarse stage that answers with the given maps [organ, x, y, z]."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, image: Tensor) -> Tensor:
        return self.maps


def two_organs(shape: tuple[int, int, int] = (44, 28, 6)) -> NDArray[np.uint8]:
    """A spleen in the corner of the scan's first slices and a liver that is wider than a window of 32."""
    label = np.zeros(shape, np.uint8)
    label[0:9, 0:7, 0:3] = 1
    label[4:42, 12:26, 1:5] = 2
    return label


def tissue_of(label: NDArray[np.uint8], seed: int = 0) -> NDArray[np.int16]:
    """HU within the soft-tissue window, different in every voxel and higher inside of organs."""
    noise = np.random.default_rng(seed).integers(-150, 50, label.shape)
    return (noise + 100 * (label > 0)).astype(np.int16)


def coarse_maps_of(label: NDArray[np.uint8], organs: int, size: Sequence[int]) -> Tensor:
    """The organs averaged over map pixels of a coarser in-plane grid: [slice, organ, x', y']."""
    slices = torch.from_numpy(label).permute(2, 0, 1)
    one_hot = torch.stack([(slices == index).float() for index in range(1, organs + 1)], dim=1)
    return interpolate(one_hot, size=list(size), mode="area")


def stored(folder: Path, label: NDArray[np.uint8], name: str = "x", **case: Any) -> tuple[Case, SliceStore]:
    """Write a scan with this label and put it into a slice store."""
    folder.mkdir(parents=True, exist_ok=True)
    written = write_case(folder, name, **{"image": tissue_of(label), "label": label, **case})
    return written, SliceStore(ORGANS, SPACING, str(folder / "cache"), ["portal_venous", "non_contrast"])


def known_maps(folder: Path, store: SliceStore, maps: dict[str, Tensor]) -> CoarseMaps:
    """Coarse maps as the coarse stage would have left them on disk, [slice, organ, x', y'] for each case's name."""
    for name, probability in maps.items():
        save_array(folder / "maps" / f"{name}.npy", (probability * 255).round().to(torch.uint8).numpy())
    nobody = KnownCoarse(torch.zeros(0))
    return CoarseMaps(store, nobody, WINDOW, str(folder / "maps"), precision="float32")  # type: ignore[arg-type]
