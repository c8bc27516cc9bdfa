"""Scores of one case: worked examples in mm and ml, partial labels, and what an empty organ scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scripts.evaluation.case_scores import CaseScore, joint_box, score_case, score_organ
from scripts.evaluation.handler import dice_metrics
from scripts.evaluation.summary import scores_frame, summarise

ORGANS = ("spleen", "liver", "aorta")
SPACING = (2.0, 1.0, 1.0)


def cube(start: tuple[int, int, int], side: int = 4, class_index: int = 1) -> torch.Tensor:
    labels = torch.zeros(10, 9, 8, dtype=torch.long)
    x, y, z = start
    labels[x : x + side, y : y + side, z : z + side] = class_index
    return labels


def only_score(prediction: torch.Tensor, reference: torch.Tensor, **options: object) -> CaseScore:
    arguments = {"spacing": SPACING, "organs": ORGANS, "annotated": ["spleen"], **options}
    (score,) = score_case("patient", prediction, reference, **arguments)  # type: ignore[arg-type]
    return score


def test_a_perfect_prediction_scores_one_at_no_distance() -> None:
    score = only_score(cube((2, 2, 2)), cube((2, 2, 2)))
    assert (score.dice, score.hd95_mm, score.surface_dice, score.status) == (1.0, 0.0, 1.0, "found")


def test_voxels_whose_truth_is_unknown_count_in_neither() -> None:
    reference = cube((2, 2, 2))
    reference[2] = 255
    score = only_score(cube((2, 2, 2)), reference)
    assert score.dice == 1.0 and score.prediction_ml == score.reference_ml == pytest.approx(3 * 4 * 4 * 2 / 1000)


def test_dice_of_two_cubes_shifted_by_one_voxel_is_three_quarters() -> None:
    # 4 x 4 x 4 = 64 voxels each, of which 3 x 4 x 4 = 48 overlap: 2 * 48 / (64 + 64).
    assert only_score(cube((3, 2, 2)), cube((2, 2, 2))).dice == pytest.approx(0.75)


@pytest.mark.parametrize(("start", "distance_mm"), [((3, 2, 2), 2.0), ((2, 3, 2), 1.0), ((2, 2, 3), 1.0)])
def test_the_distance_of_a_shift_by_one_voxel_is_the_spacing_along_that_axis(
    start: tuple[int, int, int], distance_mm: float
) -> None:
    # A whole face, 16 of the 56 surface voxels, is off by one voxel: far more than the 5% that the percentile forgives.
    assert only_score(cube(start), cube((2, 2, 2))).hd95_mm == pytest.approx(distance_mm)


def test_the_95th_percentile_forgives_a_stray_voxel() -> None:
    reference = torch.zeros(12, 3, 40, dtype=torch.long)
    reference[1, 1, :] = 1
    prediction = reference.clone()
    prediction[11, 1, 0] = 1
    # 41 predicted surface voxels, one of them 10 voxels = 20 mm away: 2.4%.
    assert only_score(prediction, reference).hd95_mm == 0.0


@pytest.mark.parametrize(("tolerance_mm", "expected"), [(0.5, 36 / 56), (1.0, 40 / 56), (2.0, 1.0)])
def test_surface_dice_counts_the_surface_voxels_within_the_tolerance(tolerance_mm: float, expected: float) -> None:
    # Of 4^3 - 2^3 = 56 surface voxels per cube, the shift by one voxel in x (2 mm) leaves 16, the protruding face, 2 mm
    # away, and 4, the inside of the opposite face, 1 mm away from the other surface. By symmetry in both directions.
    score = only_score(cube((3, 2, 2)), cube((2, 2, 2)), surface_tolerance_mm=tolerance_mm)
    assert score.surface_dice == pytest.approx(expected)


def test_volumes_are_in_millilitres() -> None:
    # 64 and 27 voxels of 2 x 1 x 1 mm.
    score = only_score(cube((2, 2, 2), side=3), cube((2, 2, 2), side=4))
    assert score.reference_ml == pytest.approx(0.128)
    assert score.prediction_ml == pytest.approx(0.054)


def test_an_organ_that_was_not_contoured_is_not_scored() -> None:
    prediction, reference = cube((0, 0, 0), class_index=2) + cube((4, 4, 4)), cube((4, 4, 4))
    scores = score_case("patient", prediction, reference, SPACING, ORGANS, annotated=["aorta", "spleen"])
    assert [(score.organ, score.class_index) for score in scores] == [("spleen", 1), ("aorta", 3)]


def test_a_missed_organ_scores_zero_and_has_no_distance() -> None:
    score = only_score(torch.zeros(10, 9, 8, dtype=torch.long), cube((2, 2, 2)))
    assert (score.status, score.dice, score.surface_dice) == ("missed", 0.0, 0.0)
    assert math.isnan(score.hd95_mm)


def test_an_organ_that_the_patient_lacks_scores_zero_if_it_is_predicted() -> None:
    score = only_score(cube((2, 2, 2)), torch.zeros(10, 9, 8, dtype=torch.long))
    assert (score.status, score.dice, score.surface_dice) == ("spurious", 0.0, 0.0)
    assert math.isnan(score.hd95_mm)


def test_an_organ_that_the_patient_lacks_earns_nothing_for_being_left_out() -> None:
    empty = torch.zeros(10, 9, 8, dtype=torch.long)
    score = only_score(empty, empty)
    assert score.status == "absent"
    assert all(math.isnan(value) for value in (score.dice, score.hd95_mm, score.surface_dice))
    assert score.reference_ml == score.prediction_ml == 0.0


@given(arrays(np.uint8, (2, 5, 4, 6), elements=st.integers(0, 1), fill=st.just(0)))
def test_the_crop_to_the_organ_changes_no_score(label_maps: np.ndarray) -> None:
    prediction, reference = (torch.from_numpy(labels) for labels in label_maps)
    cropped = only_score(prediction, reference)
    whole = score_organ("patient", "spleen", 1, prediction == 1, reference == 1, SPACING, 3.0)
    # A wide empty border too: organs that end at the edge of the scan have their surface there.
    wide_prediction, wide_reference = (
        torch.nn.functional.pad(labels == 1, (3,) * 6) for labels in (prediction, reference)
    )
    bordered = score_organ("patient", "spleen", 1, wide_prediction, wide_reference, SPACING, 3.0)
    # repr holds every digit of every score, and two NaNs are equal in it.
    assert repr(cropped) == repr(whole) == repr(bordered)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_any_integer_type_will_do(dtype: torch.dtype) -> None:
    assert only_score(cube((3, 2, 2)).to(dtype), cube((2, 2, 2)).to(dtype)).dice == pytest.approx(0.75)


def test_the_joint_box_holds_both_boxes() -> None:
    first, second = (slice(2, 5), slice(0, 3), slice(1, 2)), (slice(4, 9), slice(1, 2), slice(0, 1))
    assert joint_box(first, second) == (slice(2, 9), slice(0, 3), slice(0, 2))
    assert joint_box(None, second) == second
    assert joint_box(None, None) == (slice(0, 0),) * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": torch.zeros(1, 10, 9, 8, dtype=torch.long)}, "Drop channel axes"),
        ({"prediction": torch.zeros(10, 9, 7, dtype=torch.long)}, "on the grid of the scan"),
        ({"prediction": torch.zeros(10, 9, 8)}, r"pass `label_map.long\(\)`"),
        ({"reference": cube((2, 2, 2), class_index=4)}, "0 to 4, expected 0 to 3"),
        ({"prediction": -cube((2, 2, 2))}, "-1 to 0, expected 0 to 3"),
        ({"spacing": (1.0, 0.0, 1.0)}, "three positive lengths"),
        ({"annotated": ["spleen", "splean"]}, "'splean'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_case_and_the_remedy(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"prediction": cube((2, 2, 2)), "reference": cube((2, 2, 2))}
    with pytest.raises(ValueError, match=message) as error:
        only_score(**(arguments | changes))  # type: ignore[arg-type]
    assert "patient" in str(error.value)


def test_mean_dice_becomes_metrics_and_an_organ_without_a_score_none() -> None:
    rows = [("spleen", 1, "found", 0.9), ("liver", 2, "found", 0.7), ("aorta", 3, "absent", math.nan)]
    scores = [
        CaseScore("a", organ, index, status, dice, math.nan, math.nan, 1.0, 1.0)  # type: ignore[arg-type]
        for organ, index, status, dice in rows
    ]
    metrics = dice_metrics(summarise(scores_frame(scores)))
    assert metrics == {"dice/spleen": 0.9, "dice/liver": 0.7, "dice": pytest.approx(0.8)}
