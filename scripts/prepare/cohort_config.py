"""The config overlay of a cohort: its organs and phases, and a grid that fits its scans."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.dataset_report.measure import CaseMeasure
from scripts.files.atomic_write import replacing

logger = logging.getLogger(__name__)

# Our choices, a starting point: finer costs time that organs do not repay; pixels coarser than 3 mm lose small ones.
PIXEL_MM, SLICE_MM = (0.8, 3.0), (2.0, 5.0)
FIELD_OF_VIEW_MM = 192
PATCH_PIXELS = (48, 128)
PATCH_MULTIPLE = 16
COARSE_PIXEL_MM, COARSE_SLICE_MM = 2.0, 6.0
COARSE_FIELD_MM = (256.0, 256.0, 240.0)
COARSE_MULTIPLE = 8
COARSE_VOXELS = (16, 168)


def write_overlay(
    path: str | os.PathLike[str], name: str, organs: Sequence[str], phases: Sequence[str], cases: Sequence[CaseMeasure]
) -> Path:
    """Write a config that overrides train.yaml; one that is there with other content is kept.

    Args:
        path: the YAML file.
        name: name of the cohort.
        organs: organs to segment, in the order of the class indices.
        phases: contrast phases; empty if they are not used.
        cases: the measured scans.
    """
    spacing, coarse = working_spacing(cases), coarse_spacing(cases)
    patch, coarse_patch = patch_size(spacing), coarse_patch_size(cases, coarse)
    lines = [
        f"# {name}. Overrides train.yaml. Written by scripts.prepare; a starting point.",
        "",
        "organs:",
        *(f"- {organ}" for organ in organs),
        f"phases: [{', '.join(phases)}]",
        f"spacing: {_listed(spacing)}   # mm, the median of the scans within bounds",
        f"coarse_spacing: {_listed(coarse)}   # mm",
        f"query_planner::patch_size: {patch}   # {patch} x {spacing[0]:g} mm = {patch * spacing[0]:.0f} mm",
        f"coarse::stage::patch_size: {_listed(coarse_patch)}   # voxels of the coarse grid",
    ]
    text = "\n".join(lines) + "\n"
    if not os.path.exists(path):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif Path(path).read_text(encoding="utf-8") != text:
        logger.warning("%s is kept although it differs (edited?); delete it to have it written anew.", path)
    return Path(path)


def working_spacing(cases: Sequence[CaseMeasure]) -> list[float]:
    """Median spacing of the scans in mm, rounded and within bounds, axes R-L, A-P, S-I."""
    pixel = float(np.median([size for case in cases for size in case.spacing[:2]]))
    between = float(np.median([case.spacing[2] for case in cases]))
    pixel, between = round(float(np.clip(pixel, *PIXEL_MM)), 1), round(float(np.clip(between, *SLICE_MM)), 1)
    return [pixel, pixel, between]


def coarse_spacing(cases: Sequence[CaseMeasure]) -> list[float]:
    """Twice the working spacing; between slices at most 6 mm, or what the slices have."""
    pixel, _, between = working_spacing(cases)
    coarse = max(COARSE_PIXEL_MM, round(2 * pixel, 1))
    return [coarse, coarse, max(between, min(round(2 * between, 1), COARSE_SLICE_MM))]


def patch_size(spacing: Sequence[float]) -> int:
    """Pixels of a query patch: about 192 mm, a multiple of 16, at most the 128 pixels of the public code."""
    pixels = PATCH_MULTIPLE * round(FIELD_OF_VIEW_MM / spacing[0] / PATCH_MULTIPLE)
    return int(np.clip(pixels, *PATCH_PIXELS))


def coarse_patch_size(cases: Sequence[CaseMeasure], spacing: Sequence[float]) -> list[int]:
    """Voxels of a coarse patch: the extent of the median scan, bounded by what a training step can hold."""
    extent = np.median([case.extent for case in cases], axis=0)
    voxels = np.minimum(extent, COARSE_FIELD_MM) / np.asarray(spacing)
    return [int(np.clip(COARSE_MULTIPLE * round(size / COARSE_MULTIPLE), *COARSE_VOXELS)) for size in voxels.tolist()]


def _listed(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values) + "]"
