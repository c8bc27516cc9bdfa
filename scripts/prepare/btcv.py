"""Prepare BTCV 2015 from the challenge's own folders: check it, and write a dataset.json with a stated split.

    python -m scripts.prepare.btcv --raw_dir RawData --output_dir data/btcv                      # MONAI's 24/6
    python -m scripts.prepare.btcv --raw_dir RawData --output_dir data/btcv --split five_fold    # fold0 ... fold4
    python -m scripts.prepare.btcv --raw_dir RawData --output_dir data/btcv --split mine.json

The challenge (MICCAI "Multi-Atlas Labeling Beyond the Cranial Vault", abdomen) has RawData/Training/img/img0001.nii.gz,
RawData/Training/label/label0001.nii.gz and RawData/Testing/img. Nothing is copied. One split is written to
OUTPUT_DIR/dataset.json, folds to OUTPUT_DIR/fold0/dataset.json and so on.
"""

import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.dataset.nifti_header import raw_header
from scripts.dataset.problems import listed
from scripts.prepare.cohort import check_datalist, claim_datalists, labels_of, write_datalist
from scripts.prepare.split import NNUNET_SEED, SPLITS, TEST, TRAINING, VALIDATION, Split, deal_folds, read_splits
from scripts.runtime.plain_errors import command_parser

MONAI, FIVE_FOLD, FOLDS = "monai", "five_fold", 5
logger = logging.getLogger(__name__)

ORGANS = (
    "spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior_vena_cava", "portal_and_splenic_veins", "pancreas", "right_adrenal_gland", "left_adrenal_gland",
)  # fmt: skip
"""The 13 organs of BTCV 2015 in its order; the class index of an organ is its position + 1."""

TRAINING_NUMBERS, TEST_NUMBERS = (*range(1, 11), *range(21, 41)), tuple(range(61, 81))
TRAINING_CASES = tuple(f"img{number:04d}" for number in TRAINING_NUMBERS)
TEST_CASES = tuple(f"img{number:04d}" for number in TEST_NUMBERS)
MONAI_VALIDATION = TRAINING_CASES[-6:]  # the validation of MONAI's BTCV bundle; its other 24 scans train

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
    there = (listed(sorted(os.listdir(root)), 8) if root.is_dir() else "") or "it is empty or not there"
    raise FileNotFoundError(f"'{folder}' holds no 'Training' folder ({there}); unpack RawData.zip and give its folder.")


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


def prepare_btcv(raw_dir: str, output_dir: str, split: str = MONAI, with_test: bool = True) -> list[Path]:
    """Check the cohort in RawData or in a folder that holds it, write its datalists, and return their paths.

    The split is ``monai`` (24 training scans, validation on img0035 to img0040), ``five_fold`` (as nnU-Net deals 30
    cases), or the path of a JSON file (see ``scripts.prepare.split.read_splits``); then only the training scans that it
    names have to be there. FileNotFoundError, ValueError: files are missing or broken; nothing is written.
    """
    splits, stated = _splits(split)
    cases = [case for case in TRAINING_CASES if any(case in fold for fold in splits)]
    files = find_files(raw_dir, cases, with_test)
    _require_complete(files.missing)
    entries = {case: {"image": str(files.images[case]), "label": str(files.labels[case])} for case in cases}
    tests = [{"image": str(path)} for path in files.tests.values()]
    folders = [Path(output_dir)] if len(splits) == 1 else [Path(output_dir) / f"fold{n}" for n in range(len(splits))]
    datalists = [_datalist(entries, tests, *pair) for pair in zip(splits, stated, strict=True)]
    claim_datalists(folders, datalists)
    everything = {"labels": labels_of(ORGANS), TRAINING: list(entries.values()), "test": tests}
    summary = check_datalist(everything, ORGANS)
    _name_oddities(files, [*(files.images[case] for case in cases), *files.tests.values()])
    logger.info("BTCV 2015: %d training and %d test scans, %d organs.", len(entries), len(tests), len(ORGANS))
    shown = ", ".join(f"{organ} {count}" for organ, count in summary.organ_cases[TRAINING].items())
    logger.info("Training scans that show an organ: %s.", shown)
    return [write_datalist(folder, content) for folder, content in zip(folders, datalists, strict=True)]


def _splits(split: str) -> tuple[list[Split], list[str]]:
    """The splits that are asked for, and a sentence that states each."""
    if split == MONAI:
        chosen = [{case: VALIDATION if case in MONAI_VALIDATION else TRAINING for case in TRAINING_CASES}]
        return chosen, ["24 training and 6 validation scans (img0035 to img0040), as in MONAI's BTCV bundle"]
    if split == FIVE_FOLD:
        how = f"of {FOLDS}, dealt as nnU-Net does (KFold, shuffled, seed {NNUNET_SEED})"
        return deal_folds(TRAINING_CASES, FOLDS), [f"fold {n} {how}" for n in range(FOLDS)]
    chosen, name = read_splits(split, TRAINING_CASES), Path(split).name
    return chosen, [name] if len(chosen) == 1 else [f"fold {n} of {name}" for n in range(len(chosen))]


def _require_complete(missing: Sequence[str]) -> None:
    if not missing:
        return
    remedy = "to use a part of the training scans, name them in a JSON file and give --split that file"
    if all(name.startswith("Testing/") for name in missing):
        remedy = "to train without the test scans, add --no_test"
    names = "\n  ".join(missing)
    lack = f"BTCV is incomplete, {len(missing)} files are missing"
    raise ValueError(f"{lack}; unpack RawData.zip again, or put the files there; {remedy}:\n  {names}")


def _name_oddities(files: BtcvFiles, scans: Sequence[Path]) -> None:
    """Log the files that the challenge does not have, and the scans that are not as it published them."""
    if files.extra:
        left_out = listed(files.extra, separator="; ")
        logger.warning("files that the challenge does not have are left out (%d): %s", len(files.extra), left_out)
    if differing := [f"{scan.name}: {how}" for scan in scans if (how := difference_from_published(scan))]:
        logger.warning(
            "%d of %d scans differ from the published facts (were they resampled?): %s",
            len(differing), len(scans), listed(differing, separator="; "),
        )  # fmt: skip


def _datalist(
    entries: Mapping[str, Mapping[str, str]], tests: Sequence[Mapping[str, str]], split: Split, stated: str
) -> dict[str, Any]:
    chosen = {name: [entries[case] for case, its_split in split.items() if its_split == name] for name in SPLITS}
    return {
        "name": "BTCV 2015, abdomen",
        "description": "MICCAI 2015 challenge Multi-Atlas Labeling Beyond the Cranial Vault; portal venous CT.",
        "split": stated,
        "labels": labels_of(ORGANS),
        "modality": {"0": "CT"},
        **chosen,
        # Training scans that a user's list keeps for testing come before those of the challenge, which have no labels.
        TEST: [*chosen[TEST], *tests],
    }


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Prepare the cohort that the arguments describe and return the paths of its datalists."""
    parser = command_parser("scripts.prepare.btcv", __doc__)
    parser.add_argument("--raw_dir", required=True, help="the challenge's RawData folder")
    parser.add_argument("--output_dir", default="data/btcv", help="folder of the datalist (default: %(default)s)")
    parser.add_argument("--split", default=MONAI, help="monai, five_fold, or your own JSON file (default: %(default)s)")
    parser.add_argument("--no_test", action="store_true", help="the 20 test scans are not there")
    options = parser.parse_args(arguments)
    paths = prepare_btcv(options.raw_dir, options.output_dir, options.split, not options.no_test)
    print(*paths, sep="\n")
    return paths


if __name__ == "__main__":
    main()
