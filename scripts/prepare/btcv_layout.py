"""BTCV 2015 (MICCAI "Multi-Atlas Labeling Beyond the Cranial Vault", abdomen) as the challenge publishes it.

``RawData/Training/img/img0001.nii.gz`` with ``RawData/Training/label/label0001.nii.gz``, and ``RawData/Testing/img``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib

from scripts.dataset.datalist_file import NIFTI_SUFFIXES

ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_veins",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
"""The 13 organs of BTCV 2015 in its order; the class index of an organ is its position + 1."""

TRAINING_NUMBERS = (*range(1, 11), *range(21, 41))
TEST_NUMBERS = tuple(range(61, 81))
MONAI_VALIDATION = tuple(range(35, 41))
"""The validation of MONAI's BTCV bundle; its other 24 scans train."""

# The published facts about a scan.
MATRIX = 512
SLICES = (85, 198)
PIXEL_MM = (0.54, 0.98)
SLICE_MM = (2.5, 5.0)
# Published with two digits.
ROUNDING_MM = 0.01

TRAINING_IMAGES, TRAINING_LABELS, TEST_IMAGES = "Training/img", "Training/label", "Testing/img"


@dataclass
class BtcvFiles:
    """The files of the challenge: number of a scan -> path, and what does not belong to it.

    Attributes:
        images: training scans.
        labels: their label maps.
        tests: test scans.
        missing: expected files that are not there, relative to the folder.
        extra: files beside them that the challenge does not have.
    """

    images: dict[int, Path] = field(default_factory=dict)
    labels: dict[int, Path] = field(default_factory=dict)
    tests: dict[int, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def case_of(number: int) -> str:
    """Name of a scan: 1 -> ``img0001``."""
    return f"img{number:04d}"


def label_file_of(case: str) -> str:
    """Name of the label file of a scan: ``img0061`` -> ``label0061.nii.gz``."""
    return case.replace("img", "label", 1) + ".nii.gz"


def find_raw_data(folder: str) -> Path:
    """The folder that holds ``Training``: the given one, or ``RawData`` or ``Abdomen/RawData`` in it.

    Raises:
        FileNotFoundError: none of them does.
    """
    root = Path(folder).expanduser().resolve()
    for candidate in (root, root / "RawData", root / "Abdomen" / "RawData"):
        if (candidate / "Training").is_dir():
            return candidate
    there = sorted(os.listdir(root))[:8] if root.is_dir() else []
    raise FileNotFoundError(
        f"'{folder}' holds no 'Training' folder ({', '.join(there) or 'it is empty or not there'}); expected the "
        "challenge's RawData with Training/img, Training/label and Testing/img; unpack RawData.zip and give its folder."
    )


def find_files(root: Path, with_test: bool = True) -> BtcvFiles:
    """Look for every file of the challenge; nothing is opened.

    Args:
        root: folder from :func:`find_raw_data`.
        with_test: whether the 20 test scans are expected.
    """
    found = BtcvFiles()
    found.images = _numbered(root, TRAINING_IMAGES, "img", TRAINING_NUMBERS, found)
    found.labels = _numbered(root, TRAINING_LABELS, "label", TRAINING_NUMBERS, found)
    if with_test:
        found.tests = _numbered(root, TEST_IMAGES, "img", TEST_NUMBERS, found)
    return found


def _numbered(root: Path, place: str, stem: str, numbers: Sequence[int], found: BtcvFiles) -> dict[int, Path]:
    """The expected files of one folder; the others go to ``missing`` and ``extra``."""
    folder = root / place
    # A dot starts the resource files that macOS leaves beside each volume.
    names = sorted(name for name in os.listdir(folder) if name[0] != ".") if folder.is_dir() else []
    files: dict[int, Path] = {}
    for name in names:
        match = re.fullmatch(rf"{stem}(\d{{4}})(\.nii\.gz|\.nii)", name)
        if match and int(match[1]) in numbers and int(match[1]) not in files:
            files[int(match[1])] = folder / name
        else:
            found.extra.append(f"{place}/{name}")
    found.missing += [f"{place}/{stem}{number:04d}{NIFTI_SUFFIXES[0]}" for number in numbers if number not in files]
    return files


def differences_from_published(paths: Iterable[Path]) -> list[str]:
    """Scans whose header differs from the published facts: size in voxels and spacing in mm."""
    return [f"{path.name}: {', '.join(found)}" for path in paths if (found := _odd_geometry(path))]


def _odd_geometry(path: Path) -> list[str]:
    try:
        header = cast("Any", nib.loadsave.load(path)).header
    # A file that cannot be read is reported, with the others, by the check of the voxels.
    except Exception:
        return []
    shape, spacing = header.get_data_shape(), [float(size) for size in header.get_zooms()[:3]]
    if len(shape) != 3:
        return []
    odd = []
    if shape[:2] != (MATRIX, MATRIX) or not SLICES[0] <= shape[2] <= SLICES[1]:
        shown = " x ".join(map(str, shape))
        odd.append(f"{shown} voxels, published {MATRIX} x {MATRIX} x {SLICES[0]}-{SLICES[1]}")
    for size, (low, high), what in ((spacing[0], PIXEL_MM, "pixels"), (spacing[2], SLICE_MM, "slices")):
        if not low - ROUNDING_MM <= size <= high + ROUNDING_MM:
            odd.append(f"{what} of {size:.3g} mm, published {low:g}-{high:g} mm")
    return odd
