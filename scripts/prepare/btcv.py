"""Prepare BTCV 2015 from the challenge's own folders: check it, and write a dataset.json with a stated split.

    python -m scripts.prepare.btcv --raw_dir RawData --output_dir data/btcv                      # MONAI's 24/6
    python -m scripts.prepare.btcv --raw_dir RawData --output_dir data/btcv --split five_fold    # fold0 ... fold4
    python -m scripts.prepare.btcv --raw_dir RawData --output_dir data/btcv --split mine.json

Nothing is copied: the datalist names the files where they are. One split is written to OUTPUT_DIR/dataset.json, folds
to OUTPUT_DIR/fold0/dataset.json and so on. The 20 test scans are the split `test`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.prepare.btcv_layout import (
    MONAI_VALIDATION,
    ORGANS,
    TRAINING_NUMBERS,
    BtcvFiles,
    case_of,
    differences_from_published,
    find_files,
    find_raw_data,
)
from scripts.prepare.datalist_writer import check_datalist, claim_datalists, labels_of, write_datalist
from scripts.prepare.split import NNUNET_SEED, TRAINING, VALIDATION, Split, deal_folds, read_splits
from scripts.runtime.plain_errors import start_command

MONAI, FIVE_FOLD, FOLDS = "monai", "five_fold", 5
MAX_LISTED = 8
logger = logging.getLogger(__name__)


def prepare_btcv(raw_dir: str, output_dir: str, split: str = MONAI, with_test: bool = True) -> list[Path]:
    """Check the cohort and write its datalists.

    Args:
        raw_dir: the challenge's RawData folder, or one that holds it.
        output_dir: folder of the datalists.
        split: ``monai`` (24 training scans, validation on img0035 to img0040), ``five_fold`` (as nnU-Net deals 30
            cases), or the path of a JSON file (see ``scripts.prepare.split.read_splits``); then only the training scans
            that it names have to be there.
        with_test: whether the test scans are expected and listed.

    Returns:
        The paths of the datalists.

    Raises:
        FileNotFoundError: there is no such folder or split file.
        ValueError: files are missing, broken or have label values that the challenge does not have; nothing is written.
    """
    files = find_files(find_raw_data(raw_dir), with_test)
    splits, stated = _splits(split)
    chosen_cases = {case for fold in splits for case in fold}
    numbers = [number for number in TRAINING_NUMBERS if case_of(number) in chosen_cases]
    _require_complete(files, numbers, with_test)
    entries = {case_of(number): _entry(files, number) for number in numbers}
    tests = [{"image": str(path)} for path in files.tests.values()]
    folders = [Path(output_dir)] if len(splits) == 1 else [Path(output_dir) / f"fold{n}" for n in range(len(splits))]
    datalists = [_datalist(entries, tests, *pair) for pair in zip(splits, stated, strict=True)]
    claim_datalists(folders, datalists)
    everything = {"labels": labels_of(ORGANS), TRAINING: list(entries.values()), "test": tests}
    summary = check_datalist(everything, ORGANS)
    for warning in _oddities(files, numbers):
        logger.warning(warning)
    logger.info("BTCV 2015: %d training and %d test scans, %d organs.", len(entries), len(tests), len(ORGANS))
    shown = ", ".join(f"{organ} {count}" for organ, count in summary.organ_cases[TRAINING].items())
    logger.info("Training scans that show an organ: %s.", shown)
    return [write_datalist(folder, content) for folder, content in zip(folders, datalists, strict=True)]


def _splits(split: str) -> tuple[list[Split], list[str]]:
    """The splits that are asked for, and a sentence that states each."""
    cases = [case_of(number) for number in TRAINING_NUMBERS]
    if split == MONAI:
        held_out = {case_of(number) for number in MONAI_VALIDATION}
        chosen = [{case: VALIDATION if case in held_out else TRAINING for case in cases}]
        return chosen, ["24 training and 6 validation scans (img0035 to img0040), as in MONAI's BTCV bundle"]
    if split == FIVE_FOLD:
        how = f"of {FOLDS}, dealt as nnU-Net does (KFold, shuffled, seed {NNUNET_SEED})"
        return deal_folds(cases, FOLDS), [f"fold {n} {how}" for n in range(FOLDS)]
    chosen = read_splits(split, cases)
    return chosen, [
        f"fold {n} of {Path(split).name}" if len(chosen) > 1 else Path(split).name for n in range(len(chosen))
    ]


def _require_complete(files: BtcvFiles, numbers: Sequence[int], with_test: bool) -> None:
    unused = {f"{stem}{n:04d}" for n in set(TRAINING_NUMBERS) - set(numbers) for stem in ("img", "label")}
    missing = [name for name in files.missing if Path(name).name.split(".")[0] not in unused]
    if not missing:
        return
    remedy = "download and unpack RawData.zip again, or put the files there"
    if all(name.startswith("Testing/") for name in missing) and with_test:
        remedy += "; to train without the test scans, add --no_test"
    elif not all(name.startswith("Testing/") for name in missing):
        remedy += "; to use a part of the training scans, name them in a JSON file and give --split that file"
    listed = "\n  ".join(missing)
    raise ValueError(f"BTCV is incomplete, {len(missing)} files are missing; {remedy}:\n  {listed}")


def _oddities(files: BtcvFiles, numbers: Sequence[int]) -> list[str]:
    odd = []
    if files.extra:
        odd.append(f"files that the challenge does not have are left out ({len(files.extra)}): {_listed(files.extra)}")
    scans = [*(files.images[number] for number in numbers), *files.tests.values()]
    if differing := differences_from_published(scans):
        odd.append(
            f"{len(differing)} of {len(scans)} scans differ from the published facts (were they resampled?): "
            f"{_listed(differing)}"
        )
    return odd


def _listed(names: Sequence[str]) -> str:
    more = f"; ... and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return "; ".join(names[:MAX_LISTED]) + more


def _entry(files: BtcvFiles, number: int) -> dict[str, str]:
    return {"image": str(files.images[number]), "label": str(files.labels[number])}


def _datalist(
    entries: Mapping[str, Mapping[str, str]], tests: Sequence[Mapping[str, str]], split: Split, stated: str
) -> dict[str, Any]:
    return {
        "name": "BTCV 2015, abdomen",
        "description": "MICCAI 2015 challenge Multi-Atlas Labeling Beyond the Cranial Vault; portal venous CT.",
        "split": stated,
        "labels": labels_of(ORGANS),
        "modality": {"0": "CT"},
        **{
            name: [entries[case] for case, chosen in split.items() if chosen == name] for name in (TRAINING, VALIDATION)
        },
        # Training scans that a user's list keeps for testing come before those of the challenge, which have no labels.
        "test": [entries[case] for case, chosen in split.items() if chosen == "test"] + list(tests),
    }


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.prepare.btcv", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw_dir", required=True, help="the challenge's RawData folder")
    parser.add_argument("--output_dir", default="data/btcv", help="folder of the datalist (default: %(default)s)")
    parser.add_argument(
        "--split", default=MONAI, help="monai, five_fold, or a JSON file with your own (default: %(default)s)"
    )
    parser.add_argument("--no_test", action="store_true", help="the 20 test scans are not there")
    return parser


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Prepare the cohort that the arguments describe and return the paths of its datalists."""
    start_command()
    options = build_parser().parse_args(arguments)
    paths = prepare_btcv(options.raw_dir, options.output_dir, options.split, not options.no_test)
    for path in paths:
        print(path)
    return paths


if __name__ == "__main__":
    main()
