"""Scores of one case: a predicted label map against its reference, organ by organ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice
from monai.utils.type_conversion import convert_to_numpy
from numpy.typing import NDArray
from scipy import ndimage

from scripts.preprocessing.organ_labels import IGNORED

MM3_PER_ML = 1000.0

Box = tuple[slice, slice, slice]
Status = Literal["found", "missed", "spurious", "absent"]


@dataclass(frozen=True)
class CaseScore:
    """One organ of one case; `class_index` is its value in both label maps, `reference_ml` its volume in ml.

    | status   | reference | prediction | dice    | hd95_mm | surface_dice |
    |----------|-----------|------------|---------|---------|--------------|
    | found    | present   | present    | 0 ... 1 | >= 0    | 0 ... 1      |
    | missed   | present   | empty      | 0       | NaN     | 0            |
    | spurious | empty     | present    | 0       | NaN     | 0            |
    | absent   | empty     | empty      | NaN     | NaN     | NaN          |

    Our choice: an absent organ earns no Dice of 1, which would reward a cohort for organs that its patients lack, and
    a distance to nothing is not a number. Means leave NaN out; the statuses are counted beside them. `hd95_mm` is the
    95th percentile Hausdorff distance, the larger direction; `surface_dice` the share of surfaces within the tolerance.
    """

    case: str
    organ: str
    class_index: int
    status: Status
    dice: float
    hd95_mm: float
    surface_dice: float
    reference_ml: float
    prediction_ml: float


def score_case(
    case: str,
    prediction: torch.Tensor,
    reference: torch.Tensor,
    spacing: Sequence[float],
    organs: Sequence[str],
    annotated: Sequence[str],
    surface_tolerance_mm: float = 3.0,
) -> list[CaseScore]:
    """Score every organ that was contoured in a case (`annotated`) on the grid of its scan, with MONAI's metrics.

    Both label maps are integers [x, y, z]; the class index of an organ is its position in `organs` + 1. An organ that
    the case was not contoured for gets no row: its voxels in the prediction may well be right. The spacing is in mm.
    Voxels whose reference is IGNORED count in neither.
    The tolerance is the largest distance of surfaces that still agree (our choice: 3 mm, the slice distance of the CTs
    this bundle is meant for, below which the image defines no contour). ValueError where these do not fit.
    """
    _check_grid(case, prediction, reference, spacing)
    if unknown := sorted(set(annotated) - set(organs)):
        raise ValueError(f"{case}: annotated organs {unknown} are not among the configured organs {list(organs)}.")
    if bool((ignored := reference == IGNORED).any()):
        prediction, reference = prediction.masked_fill(ignored, 0), reference.masked_fill(ignored, 0)
    predicted = _label_array(case, "prediction", prediction, len(organs))
    referenced = _label_array(case, "reference", reference, len(organs))
    boxes = (ndimage.find_objects(labels, max_label=len(organs)) for labels in (predicted, referenced))
    scores = []
    for class_index, (organ, *around) in enumerate(zip(organs, *boxes, strict=True), start=1):
        if organ in annotated:
            box = joint_box(*around)
            found, true = (torch.from_numpy(labels[box] == class_index) for labels in (predicted, referenced))
            scores.append(score_organ(case, organ, class_index, found, true, spacing, surface_tolerance_mm))
    return scores


def score_organ(
    case: str,
    organ: str,
    class_index: int,
    prediction: torch.Tensor,
    reference: torch.Tensor,
    spacing: Sequence[float],
    surface_tolerance_mm: float,
) -> CaseScore:
    """Score one organ given as boolean arrays [x, y, z], whole or cropped to a box that holds both.

    The crop changes no score: Dice counts organ voxels only, and MONAI treats the border of the array as the outside
    of the organ, so its surface is the same with or without empty voxels around it.
    """
    voxel_ml = math.prod(spacing) / MM3_PER_ML
    reference_ml, prediction_ml = int(reference.sum()) * voxel_ml, int(prediction.sum()) * voxel_ml
    status: Status = "absent"
    dice = hd95_mm = surface_dice = math.nan
    if reference_ml > 0 and prediction_ml > 0:
        y_pred, y, size = prediction[None, None], reference[None, None], [float(step) for step in spacing]
        status, dice = "found", float(compute_dice(y_pred, y))
        hd95_mm = float(compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=size))
        share = compute_surface_dice(y_pred, y, [surface_tolerance_mm], include_background=True, spacing=size)
        surface_dice = float(share)
    elif reference_ml > 0 or prediction_ml > 0:
        status = "missed" if reference_ml > 0 else "spurious"
        dice = surface_dice = 0.0
    return CaseScore(case, organ, class_index, status, dice, hd95_mm, surface_dice, reference_ml, prediction_ml)


def joint_box(first: Box | None, second: Box | None) -> Box:
    """The smallest box [x, y, z] around two, where None is empty: x from 2 to 5 and from 4 to 9 give x from 2 to 9."""
    boxes = [box for box in (first, second) if box is not None] or [(slice(0, 0),) * 3]
    x, y, z = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return (x, y, z)


def _check_grid(case: str, prediction: torch.Tensor, reference: torch.Tensor, spacing: Sequence[float]) -> None:
    if prediction.ndim != 3 or prediction.shape != reference.shape:
        shapes = f"prediction has shape {tuple(prediction.shape)} and reference {tuple(reference.shape)}"
        raise ValueError(f"{case}: {shapes}; both must be [x, y, z] on the grid of the scan. Drop channel axes.")
    if len(spacing) != 3 or not all(step > 0 for step in spacing):
        raise ValueError(f"{case}: spacing must be three positive lengths in mm (x, y, z), got {list(spacing)}.")


def _label_array(case: str, role: str, label_map: torch.Tensor, organ_count: int) -> NDArray[np.int32]:
    if label_map.is_floating_point() or label_map.is_complex():
        raise ValueError(f"{case}: {role} must hold integers, got {label_map.dtype}; pass `label_map.long()`.")
    array: NDArray[np.int32] = convert_to_numpy(label_map, dtype=np.int32)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= organ_count:
        found = f"class indices {array.min()} to {array.max()}, expected 0 to {organ_count}"
        raise ValueError(f"{case}: {role} holds {found}; map the file's label values to class indices first.")
    return array
