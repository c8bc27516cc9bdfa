"""Volumes of any size: a phantom on the working grid, cropped or padded in plane, its slices spread evenly.

However many slices there are, each looks the same and has about as many queries, so that only their number changes.
As a scan file for all candidates, a phantom or a real scan made to fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import Compose, LoadImage, Orientation, ResizeWithPadOrCrop, Spacing
from numpy.typing import NDArray

from development.benchmarks.phantom_bundle import bundle_config, coarse_maps_of_labels
from development.phantom.anatomy import make_phantom_case
from development.phantom.tissues import HOUNSFIELD_AIR
from scripts.queries.attention import maps_on_slices

Voxels = NDArray[Any]
PHANTOM_VOXEL = 2.0
"""mm; the phantom is built with voxels no finer than this in plane and then cut up: its content costs nobody time."""


def in_plane(volume: Voxels, side: int, fill: float) -> Voxels:
    """Crop or pad a volume [x, y, z] about its centre to side x side pixels."""
    for axis in (0, 1):
        extra = side - volume.shape[axis]
        pads = [(max(extra, 0) // 2, max(extra, 0) - max(extra, 0) // 2) if n == axis else (0, 0) for n in range(3)]
        first = max(-extra, 0) // 2
        volume = np.pad(volume, pads, constant_values=fill).take(range(first, first + side), axis=axis)
    return volume


def phantom_volume(shape: Sequence[int], spacing: Sequence[float]) -> tuple[Voxels, Voxels]:
    """HU and class indices [x, y, z], axes R, A, S, of the shape (x and y equal) at this spacing in mm.

    The height of the body always fills the slices.
    """
    case = make_phantom_case(0, 0, (spacing[0], spacing[0]), (spacing[2], spacing[2]))
    chosen = np.linspace(0, case.image.shape[2] - 1, shape[2]).round().astype(int)
    hu, labels = case.image[:, :, chosen], case.label[:, :, chosen]
    return in_plane(hu, shape[0], HOUNSFIELD_AIR), in_plane(labels, shape[0], 0)


def save_case(folder: Path, shape: Sequence[int], settings: Mapping[str, Any]) -> int:
    """Write what ``development.benchmarks.one_volume`` reads: volume.npy, maps.npy (uint8) and settings.json.

    Returns:
        The number of queries that the coarse maps give.
    """
    folder.mkdir(parents=True)
    parser = bundle_config(settings=settings)
    hu, labels = phantom_volume(shape, parser["spacing"])
    segmenter = parser.get_parsed_content("coarse_segmenter")
    maps = coarse_maps_of_labels(torch.from_numpy(labels), len(parser["organs"]), segmenter)
    np.save(folder / "volume.npy", hu.astype(np.int16))
    np.save(folder / "maps.npy", (maps * 255).round().byte().numpy())
    (folder / "settings.json").write_text(json.dumps(dict(settings)), encoding="utf-8")
    planner = parser.get_parsed_content("query_planner")
    return len(planner(maps_on_slices(maps, shape[2]), shape[0], shape[1]))


def write_phantom_scan(path: Path, size: Sequence[int], spacing: Sequence[float]) -> None:
    """Write a phantom of this many voxels of this spacing (mm)."""
    coarsest = [max(spacing[0], PHANTOM_VOXEL), max(spacing[1], PHANTOM_VOXEL), spacing[2]]
    side = max(8, round(size[0] * spacing[0] / coarsest[0]))
    hu, _ = phantom_volume([side, side, size[2]], coarsest)
    for axis, (old, new) in enumerate(zip(hu.shape, size, strict=True)):
        hu = hu.take(np.arange(new) * old // new, axis=axis)
    write_scan(path, hu, spacing)


def write_fitted_scan(path: Path, scan: str, size: Sequence[int], spacing: Sequence[float]) -> None:
    """Write a real scan resampled to this spacing (mm), cropped or filled with air to this many voxels."""
    fit = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacing(list(spacing), mode="bilinear", padding_mode="border", dtype=np.float32),
            ResizeWithPadOrCrop(list(size), mode="constant", value=HOUNSFIELD_AIR),
        ]
    )
    write_scan(path, np.asarray(fit(scan)[0]), spacing)


def write_scan(path: Path, hu: Voxels, spacing: Sequence[float]) -> None:
    """Write HU [x, y, z], axes R, A, S, as int16 with axes L, P, S, as scanners do."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(hu[::-1, ::-1].round().astype(np.int16), affine), path)
