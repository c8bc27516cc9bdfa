"""Scans of one's own, a few voxels each, as folders and DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import itk
import numpy as np
from tiny_dataset import ct_voxels, label_voxels, save


def write_scan(folder: Path, name: str, seed: int, labelled: bool = True, **label: Any) -> None:
    """Write ``scans/<name>.nii.gz`` and, if labelled, ``labels/<name>.nii.gz`` (spleen 1, liver 2)."""
    for place in ("scans", "labels"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    save(folder / "scans" / f"{name}.nii.gz", ct_voxels(seed))
    if labelled:
        save(folder / "labels" / f"{name}.nii.gz", label.get("voxels", label_voxels()))


def write_series(folder: Path, seed: int, patient: str = "", series: str = "1.2.3.4", slices: int = 4) -> None:
    """Write one DICOM series of axial slices, without file extension as scanners export them."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = ct_voxels(seed, (8, 8, slices))
    tags = {"0020|000d": "1.2.3", "0020|000e": series, "0008|0060": "CT", "0010|0020": patient}
    for k in range(slices):
        image = itk.image_from_array(np.ascontiguousarray(voxels[:, :, k].T[None]))
        image.SetOrigin([0.0, 0.0, 3.0 * k])
        own = {"0008|0018": f"{series}.{k + 1}", "0020|0032": f"0\\0\\{3 * k}", "0020|0013": str(k + 1)}
        for tag, value in {**tags, **own}.items():
            image.GetMetaDataDictionary()[tag] = value
        encoder = itk.GDCMImageIO.New()
        encoder.SetKeepOriginalUID(True)
        itk.imwrite(image, str(folder / f"{series}_{k}.dcm"), imageio=encoder)
        (folder / f"{series}_{k}.dcm").rename(folder / f"{series}_{k}")
