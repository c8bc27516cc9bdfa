"""BTCV 2015 (MICCAI "Multi-Atlas Labeling Beyond the Cranial Vault", abdomen) as the challenge publishes it.

``RawData/Training/img/img0001.nii.gz`` with ``RawData/Training/label/label0001.nii.gz``, and ``RawData/Testing/img``.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from scripts.dataset.nifti_header import raw_header
from scripts.dataset.problems import listed

ORGANS = (
    "spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior_vena_cava", "portal_and_splenic_veins", "pancreas", "right_adrenal_gland", "left_adrenal_gland",
)  # fmt: skip
"""The 13 organs of BTCV 2015 in its order; the class index of an organ is its position + 1."""

TRAINING_NUMBERS, TEST_NUMBERS = (*range(1, 11), *range(21, 41)), tuple(range(61, 81))
TRAINING_CASES = tuple(f"img{number:04d}" for number in TRAINING_NUMBERS)
TEST_CASES = tuple(f"img{number:04d}" for number in TEST_NUMBERS)
MONAI_VALIDATION = TRAINING_CASES[-6:]
"""The validation of MONAI's BTCV bundle; its other 24 scans train."""

# The published facts about a scan.
MATRIX, SLICES = 512, (85, 198)
PIXEL_MM, SLICE_MM = (0.54, 0.98), (2.5, 5.0)
ROUNDING_MM = 0.01  # they are published with two digits


@dataclass
class BtcvFiles:
    """The files of the challenge: name of a scan -> path, of training scans, their label maps and test scans.

    Beside them, relative to the folder: needed files that are missing, and extra ones that the challenge does not have.
    """

    images: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    tests: dict[str, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def _raw_data(folder: str) -> Path:
    """The folder that holds ``Training``: the given one, or ``RawData`` or ``Abdomen/RawData`` in it."""
    root = Path(folder).expanduser().resolve()
    for candidate in (root, root / "RawData", root / "Abdomen" / "RawData"):
        if (candidate / "Training").is_dir():
            return candidate
    there = listed(sorted(os.listdir(root)), 8) if root.is_dir() else ""
    raise FileNotFoundError(
        f"'{folder}' holds no 'Training' folder ({there or 'it is empty or not there'}); expected the "
        "challenge's RawData with Training/img, Training/label and Testing/img; unpack RawData.zip and give its folder."
    )


def find_files(folder: str, needed: Collection[str] = TRAINING_CASES, with_test: bool = True) -> BtcvFiles:
    """Look for the needed training scans and the test scans in RawData, or in a folder that holds it."""
    root, found, wanted = _raw_data(folder), BtcvFiles(), {*needed, *TEST_CASES}
    places = [("Training/img", found.images, TRAINING_CASES), ("Training/label", found.labels, TRAINING_CASES)]
    if with_test:
        places.append(("Testing/img", found.tests, TEST_CASES))
    for place, files, cases in places:
        stem = Path(place).name
        # A dot starts the resource files that macOS leaves beside each volume.
        for path in sorted((root / place).glob("[!.]*")):
            match = re.fullmatch(rf"{stem}(\d{{4}})(\.nii\.gz|\.nii)", path.name)
            case = f"img{match[1]}" if match else ""
            if case in cases and case not in files:
                files[case] = path
            else:
                found.extra.append(f"{place}/{path.name}")
        missing = [case for case in cases if case in wanted and case not in files]
        found.missing += [f"{place}/{case.replace('img', stem)}.nii.gz" for case in missing]
    return found


def difference_from_published(path: Path) -> str:
    """How the header of a scan differs from the published facts: size in voxels and spacing in mm; empty if not."""
    header = raw_header(str(path))
    shape, spacing = header.get_data_shape(), [float(size) for size in header.get_zooms()[:3]]
    odd = []
    if shape[:2] != (MATRIX, MATRIX) or not SLICES[0] <= shape[2] <= SLICES[1]:
        odd.append(f"{' x '.join(map(str, shape))} voxels, published {MATRIX} x {MATRIX} x {SLICES[0]}-{SLICES[1]}")
    for size, (low, high), what in ((spacing[0], PIXEL_MM, "pixels"), (spacing[2], SLICE_MM, "slices")):
        if not low - ROUNDING_MM <= size <= high + ROUNDING_MM:
            odd.append(f"{what} of {size:.3g} mm, published {low:g}-{high:g} mm")
    return ", ".join(odd)
