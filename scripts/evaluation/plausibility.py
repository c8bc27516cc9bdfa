"""Whether a scan and what was found in it look like those of training: broken or foreign input is warned about.

Signs of a scan are taken from its voxels and labels on the working grid. Their limits are what training scans hardly
exceed. :mod:`scripts.evaluation.quality` stores them with the calibration.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import MetaTensor
from torch import Tensor

BODY, BLANK, LEAST_HU = -300.0, 1.0, -1024.0
"""HU above which a voxel is of the body or what it lies on; by which voxels of a blank slice differ at most; of air."""
MM3_PER_ML = 1000.0
NOTHING = 1000.0
LEAST_SCANS = 15
NORMAL = 1.4826  # standard deviation by median absolute deviation, of a normal distribution
QUANTILE, MARGIN = 0.98, 2.0
"""A limit is this quantile of the training scans' distances, times a margin, and 1 at least. Our choice."""
ASPECTS = {
    "blank": ("slices are blank", 0.05),
    "air": ("the lowest HU is not that of air", 100.0),
    "noise": ("the noise is another one", 0.1),
    "sure": ("the scores of the organs are low, or there is none", 0.02),
    "found": ("few organs are found", 1.0),
    "volume": ("the volumes of the organs are others", 0.1),
    "density": ("the HU of the organs are others", 5.0),
    "left_right": ("organs lie elsewhere to the left or right of each other", 3.0),
    "front_back": ("organs lie elsewhere in front of each other", 3.0),
    "up_down": ("organs lie elsewhere above each other", 3.0),
}
"""What a distance beyond the limit means, and the least spread of the values of training scans (our choice): share of
slices, HU, logarithm of HU, soft Dice, organs, logarithm of ml, HU, and mm. More organs or higher scores are fine."""
MEASURED: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "sure": ("soft_dice", float),
    "volume": ("volume_ml", math.log),
    "density": ("mean_hu", float),
}
"""What `organs` have of an aspect, and its scale."""
AXES = ("left_right", "front_back", "up_down")
Signs = Mapping[str, Any]


def signs_of(scan: MetaTensor, labels: Tensor, organs: Mapping[str, float]) -> dict[str, Any]:
    """Signs of a scan [1, x, y, z] in HU and its labels [x, y, z], both on the working grid (R, A, S).

    `organs`: the soft Dice by name, 0 if not found, in the order of the class indices.
    """
    image, spacing = scan.as_tensor()[0].to(labels.device), np.linalg.norm(np.asarray(scan.affine)[:3, :3], axis=0)
    places = labels.nonzero()
    found, step = labels[places[:, 0], places[:, 1], places[:, 2]], torch.as_tensor(spacing)
    count = torch.bincount(found, minlength=1 + len(organs)).double()
    values = image[places[:, 0], places[:, 1], places[:, 2]]
    cut = {*labels[:, :, 0].unique().tolist(), *labels[:, :, -1].unique().tolist()}
    sums = [torch.bincount(found, column.double(), 1 + len(organs)) for column in (*places.T, values)]
    *centres, hu = torch.stack(sums) / count
    measured = {
        organ: {
            "soft_dice": round(soft, 4),
            "volume_ml": round(float(count[index] * step.prod()) / MM3_PER_ML, 6),
            "mean_hu": round(float(hu[index]), 1),
            "cut_off": index in cut,
            "centre_mm": [round(float(axis[index] * mm), 1) for axis, mm in zip(centres, step, strict=True)],
        }
        for index, (organ, soft) in enumerate(organs.items(), start=1)
        if count[index] > 0
    }
    thin = image[:, :, :: max(1, image.shape[2] // 32)]
    inside = (thin > BODY)[1:] & (thin > BODY)[:-1]
    noise = thin.diff(dim=0)[inside].abs().median() if inside.any() else torch.tensor(0.0)
    flat = image.reshape(-1, image.shape[2])
    return {
        "organs": measured,
        "blank": round(float((flat.amax(dim=0) - flat.amin(dim=0) <= BLANK).double().mean()), 4),
        "air": round(max(float(image.min()), LEAST_HU), 1),
        "noise": round(float(noise), 2),
    }


def distances_of(signs: Signs, known: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Distance of a scan from training scans in each aspect: the mean over organs, or pairs of organs, in spreads.

    `known` has mean and spread of each value. Without any organ the distance in "sure" is `NOTHING`.
    """
    distances = {}
    for aspect, expected in known.items():
        values = _values(signs, aspect)
        least = LEAST_HU if aspect == "air" else -np.inf  # also where it was fitted to values below
        pairs = [(values[name], *known_values) for name, known_values in expected.items() if name in values]
        apart = [(value - max(mean, least)) / spread for value, mean, spread in pairs]
        worse = np.maximum(np.negative(apart), 0) if aspect in ("sure", "found") else np.abs(apart)
        distances[aspect] = float(worse.mean()) if apart else 0.0
        if aspect == "sure" and not signs["organs"]:
            distances[aspect] = NOTHING
    return distances


def fit(scans: Sequence[Signs]) -> dict[str, Any]:
    """Mean and spread of training scans' values, the limit of their distance in each aspect; ValueError below 15."""
    if len(scans) < LEAST_SCANS:
        raise ValueError(f"{len(scans)} scans are given, expected {LEAST_SCANS} or more: segment the training scans.")
    known: dict[str, dict[str, list[float]]] = {}
    for aspect, (_, least) in ASPECTS.items():
        table = pd.DataFrame([_values(signs, aspect) for signs in scans])
        table = table.loc[:, table.count() >= LEAST_SCANS // 2]
        middle = table.median()
        spreads = (NORMAL * (table - middle).abs().median()).clip(lower=least)
        known[aspect] = dict(zip(map(str, table), np.column_stack([middle, spreads]).round(4).tolist(), strict=True))
    distances = pd.DataFrame([distances_of(signs, known) for signs in scans])
    return {"known": known, "limits": (MARGIN * distances.quantile(QUANTILE)).clip(lower=1.0).round(4).to_dict()}


def excess_of(signs: Signs, plausible: Mapping[str, Any]) -> dict[str, float]:
    """Distance of a scan in each aspect, in limits."""
    distances = distances_of(signs, plausible["known"])
    return {aspect: distance / plausible["limits"][aspect] for aspect, distance in distances.items()}


def warning_of(signs: Signs, plausible: Mapping[str, Any]) -> str:
    """A sentence on what exceeds its limit, the worst first; empty if nothing does."""
    excess = excess_of(signs, plausible)
    beyond = [ASPECTS[name][0] for name in sorted(excess, key=lambda name: -excess[name]) if excess[name] > 1]
    question = "Is the scan complete, upright, in HU and of the part of the body that the weights know?"
    return f"unlike the training scans: {'; '.join(beyond)}. {question}" if beyond else ""


def _values(signs: Signs, aspect: str) -> dict[str, float]:
    """Values of an aspect, by organ, pair of organs, or aspect; of organs that the first or last slice cuts: places."""
    found = signs["organs"]
    if aspect in MEASURED:
        key, scale = MEASURED[aspect]
        return {organ: scale(measures[key]) for organ, measures in found.items() if not measures["cut_off"]}
    if aspect in AXES:
        axis = AXES.index(aspect)
        places = {organ: found[organ]["centre_mm"][axis] for organ in sorted(found)}
        return {f"{one} {other}": places[one] - places[other] for one, other in combinations(places, 2)}
    return {aspect: {**signs, "found": len(found), "noise": math.log(1 + signs["noise"])}[aspect]}
