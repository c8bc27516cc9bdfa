"""Coarse recall: how many organs and slices the coarse stage finds. What it misses cannot be recovered later.

Recall alone would praise a map that says "here" everywhere, which is what a network makes of an organ that none of its
training cases has contoured; so the maps' Dice stands beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from scripts.preprocessing.slice_store import StoredCase
from scripts.queries.coarse_maps import CoarseMaps


def shown_organs(stored: StoredCase) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Class index, slice numbers and truth [slice, x, y] there of each contoured organ that a case shows."""
    if stored.label is None:
        return
    for organ in stored.annotated:
        truth = stored.label == organ
        slices = torch.nonzero(truth.flatten(1).any(1))[:, 0]
        if len(slices):
            yield organ, slices, truth[slices]


def reached_slices(stored: StoredCase, maps: Tensor, threshold: float) -> dict[int, tuple[int, int]]:
    """For each contoured organ that a case shows, by class index: slices that its coarse map reaches, and all slices.

    A slice is reached when an organ pixel has probability >= threshold. Maps [slice, organ, x', y'] uint8: 255 is 1.
    """
    reached: dict[int, tuple[int, int]] = {}
    for organ, slices, truth in shown_organs(stored):
        chosen = maps[slices, organ - 1].float()[:, None] / 255
        upsampled = interpolate(chosen, size=truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        hits = int(((upsampled >= threshold) & truth).flatten(1).any(1).sum())
        reached[organ] = hits, len(slices)
    return reached


def map_dice(stored: StoredCase, maps: Tensor) -> dict[int, float]:
    """Soft Dice of the coarse map of each contoured organ that a case shows, by class index.

    Probabilities p against the share t of organ in every pixel of the maps' grid: 2 sum(min(p, t)) / (sum(p) + sum(t)).
    1 where p = t, near 0 for a map that finds nothing, and for one that finds the organ everywhere.
    """
    dice: dict[int, float] = {}
    for organ, slices, truth in shown_organs(stored):
        share = interpolate(truth.float()[:, None], size=maps.shape[2:], mode="area")[:, 0]
        probability = maps[:, organ - 1].float() / 255
        common = torch.minimum(probability[slices], share).sum()
        dice[organ] = float(2 * common / (probability.sum() + share.sum()))
    return dice


def coarse_recall(
    cases: Sequence[Mapping[str, Any]], maps: CoarseMaps, threshold: float
) -> dict[str, dict[str, float | int | list[str]]]:
    """For each organ: contoured cases, those that the coarse stage misses, the share of slices it reaches, mean Dice.

    A case is missed when no slice of the organ is reached, see `reached_slices`; the Dice is `map_dice`.
    """
    report: dict[str, dict[str, float | int | list[str]]] = {}
    shown: dict[int, list[tuple[str, int, int, float]]] = {}
    for case in cases:
        stored = maps.store.open(case)
        if stored.label is not None:  # of an unlabelled scan no maps are predicted for this
            dice = map_dice(stored, maps.of(case))
            for organ, (hits, total) in reached_slices(stored, maps.of(case), threshold).items():
                shown.setdefault(organ, []).append((stored.name, hits, total, dice[organ]))
    for organ, name in enumerate(maps.store.organs, start=1):
        names, hits_of, slices_of, dice_of = zip(*shown[organ], strict=True) if organ in shown else [()] * 4
        missed = [case for case, found in zip(names, hits_of, strict=True) if found == 0]
        report[name] = {
            "cases": len(names),
            "missed": len(missed),
            "missed_cases": missed,
            "slices_reached": sum(hits_of) / sum(slices_of) if names else float("nan"),
            "dice": sum(dice_of) / len(dice_of) if names else float("nan"),
        }
    return report


def recall_table(report: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as text, a line for each organ."""
    lines = [f"{'organ':<28}{'cases':>6}{'missed':>8}{'slices reached':>16}{'Dice':>8}"]
    for organ, row in report.items():
        lines.append(f"{organ:<28}{row['cases']:>6}{row['missed']:>8}{row['slices_reached']:>16.1%}{row['dice']:>8.2f}")
    return "\n".join(lines)
