"""Write synthetic cases to disk as NIfTI files with a Decathlon-style ``dataset.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from development.phantom.anatomy import PhantomCase, case_phase, contoured_organs, make_phantom_case, require_valid
from development.phantom.tissues import ORGANS

PHANTOM_VERSION = 1
"""Raised whenever equal arguments would give other voxels, so that an old folder is not taken for a new one."""

SPLITS = ("training", "validation", "test")
DATASET_JSON = "dataset.json"
PLAN_JSON = "phantom_plan.json"


def write_phantom_dataset(
    output_dir: str,
    training: int = 16,
    validation: int = 6,
    test: int = 2,
    seed: int = 0,
    in_plane_spacing: tuple[float, float] = (1.6, 2.2),
    slice_spacing: tuple[float, float] = (2.5, 5.0),
    partial_fraction: float = 0.25,
) -> str:
    """Write a synthetic data set, or keep the one that is there.

    Images are HU (int16, air -1000), labels the class indices of the 13 BTCV organs (uint8). Cases are numbered
    through all splits and depend on the seed and their number alone; only training cases are ever contoured in part.
    An interrupted run leaves whole files behind and no ``dataset.json``; the next run adds what is missing.

    Args:
        output_dir: folder to write to; made if it is missing.
        training: number of training cases.
        validation: number of validation cases.
        test: number of test cases.
        seed: seed of the data set; the same seed gives the same voxels.
        in_plane_spacing: smallest and largest pixel size in mm.
        slice_spacing: smallest and largest distance of slices in mm.
        partial_fraction: part of the training cases that is contoured for some organs only.

    Returns:
        Path of ``dataset.json``.

    Raises:
        ValueError: if a count is negative or there is no case, a fraction is outside [0, 1], or the folder holds a
            data set made with other arguments or by another version; if a spacing or the seed is invalid.
    """
    counts = {"training": training, "validation": validation, "test": test}
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ValueError(f"the numbers of cases must be 0 or more and not all 0, got {counts}")
    if not 0.0 <= partial_fraction <= 1.0:
        raise ValueError(f"partial_fraction must be within 0 and 1, got {partial_fraction}")
    require_valid(seed, 0, in_plane_spacing, slice_spacing)
    plan: dict[str, Any] = {
        "version": PHANTOM_VERSION,
        **counts,
        "seed": seed,
        "in_plane_spacing": [float(value) for value in in_plane_spacing],
        "slice_spacing": [float(value) for value in slice_spacing],
        "partial_fraction": float(partial_fraction),
    }
    folder = Path(output_dir)
    _require_same_plan(folder, plan)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # The plan is kept from the start: without it a later run could mix the cases of two different data sets.
    _write_json(folder / PLAN_JSON, plan)
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for number, split in enumerate(tqdm(_split_of_every_case(counts), desc="synthetic abdomen", unit="case")):
        partial = split == "training" and is_partially_annotated(number, partial_fraction)
        entries[split].append(_write_case(folder, number, plan, partial))
    _write_json(folder / DATASET_JSON, _describe(entries, plan))
    return str(folder / DATASET_JSON)


def is_partially_annotated(number: int, fraction: float) -> bool:
    """Return whether a training case is contoured in part: evenly spread, whatever the number of cases.

    With a fraction of 0.25 these are the cases 3, 7, 11, ...
    """
    return int((number + 1) * fraction) > int(number * fraction)


def _split_of_every_case(counts: Mapping[str, int]) -> list[str]:
    return [split for split in SPLITS for _ in range(counts[split])]


def _write_case(folder: Path, number: int, plan: Mapping[str, Any], partial: bool) -> dict[str, Any]:
    """Write one case unless it is there, and return its entry of ``dataset.json``."""
    seed, name = plan["seed"], f"phantom_{number:03d}.nii.gz"
    image, label = folder / "images" / name, folder / "labels" / name
    if not (image.is_file() and label.is_file()):
        case = make_phantom_case(seed, number, tuple(plan["in_plane_spacing"]), tuple(plan["slice_spacing"]), partial)
        _write_nifti(image, case.image, case)
        _write_nifti(label, case.label, case)
    return {
        "image": f"images/{name}",
        "label": f"labels/{name}",
        "annotated": list(contoured_organs(seed, number, partial)),
        "phase": case_phase(seed, number),
    }


def _describe(entries: Mapping[str, list[dict[str, Any]]], plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "Synthetic abdomen",
        "description": "Parametric abdominal CTs with the 13 BTCV organs in two contrast phases; not of any person.",
        "labels": {"0": "background", **{str(index): organ for index, organ in enumerate(ORGANS, start=1)}},
        "modality": {"0": "CT"},
        "phantom": dict(plan),
        **entries,
    }


def _require_same_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    found: Mapping[str, Any] | None = None
    if (folder / DATASET_JSON).is_file():
        found = json.loads((folder / DATASET_JSON).read_text(encoding="utf-8")).get("phantom")
        if found is None:
            raise ValueError(
                f"{folder / DATASET_JSON} describes a data set that is no synthetic abdomen: give another output_dir"
            )
    elif (folder / PLAN_JSON).is_file():
        found = json.loads((folder / PLAN_JSON).read_text(encoding="utf-8"))
    if found is None:
        return
    differing = [key for key in plan if found.get(key) != plan[key]]
    if differing:
        words = ", ".join(f"{key} is {found.get(key)} there and {plan[key]} here" for key in differing)
        raise ValueError(
            f"{folder} holds a synthetic abdomen made with other arguments: {words}. "
            "Give another output_dir, or delete that folder to make it anew"
        )


def _write_nifti(path: Path, volume: NDArray[np.generic], case: PhantomCase) -> None:
    nifti: Any = nibabel.Nifti1Image(volume, case.affine)
    # Code 1 (scanner): some readers take the affine from the qform, others from the sform.
    nifti.set_qform(case.affine, code=1)
    nifti.set_sform(case.affine, code=1)
    nifti.header.set_xyzt_units("mm")
    # The suffix stays .nii.gz, by which nibabel chooses the format.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        nibabel.save(nifti, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
