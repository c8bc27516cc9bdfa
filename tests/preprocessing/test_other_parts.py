"""Of an organ in one piece only the largest connected part is kept."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from scripts.preprocessing.working_grid import ScoresToScanLabelsd, without_other_parts


def scores_of(*organs: list[float]) -> torch.Tensor:
    """Scores of organs along one row of voxels, as the two-stage predictor gives them: [class, x, 1, 1]."""
    maps = torch.tensor(organs)
    return torch.cat([1 - maps.amax(dim=0, keepdim=True), maps])[..., None, None]


def test_the_example_of_the_docstring() -> None:
    kept = without_other_parts(scores_of([0.9, 0.8, 0.1, 0.7]), [1], 0.5, False)
    assert kept[1].flatten().tolist() == pytest.approx([0.9, 0.8, 0.1, 0.0])


def test_an_organ_that_is_not_named_and_the_given_scores_stay_as_they_are() -> None:
    scores = scores_of([0.9, 0.8, 0.1, 0.7], [0.0, 0.0, 0.6, 0.0])
    before = scores.clone()
    assert without_other_parts(scores, [2], 0.5, False) is scores
    without_other_parts(scores, [1], 0.5, False)
    assert torch.equal(scores, before)


def test_a_part_ends_where_another_organ_wins() -> None:
    """The first organ reaches the threshold everywhere, but in the middle the second one has the higher score."""
    kept = without_other_parts(scores_of([0.6, 0.6, 0.6, 0.6], [0.0, 0.9, 0.0, 0.0]), [1, 2], 0.5, False)
    assert kept[1].flatten().tolist() == pytest.approx([0.0, 0.6, 0.6, 0.6])


def test_with_the_background_among_the_classes_parts_are_those_of_the_highest_score() -> None:
    """Softmax scores: at voxel 1 the background wins with .5 of three classes."""
    scores = torch.tensor([[0.1, 0.5, 0.1, 0.2], [0.5, 0.2, 0.6, 0.6], [0.4, 0.3, 0.3, 0.2]])[..., None, None]
    kept = without_other_parts(scores, [1], 0.0, True)
    assert kept[1].flatten().tolist() == pytest.approx([0.0, 0.2, 0.6, 0.6])


def test_voxels_that_share_a_corner_belong_together() -> None:
    scores = torch.zeros(2, 2, 2, 2)
    scores[1, 0, 0, 0] = scores[1, 1, 1, 1] = 0.9
    assert without_other_parts(scores, [1], 0.5, False) is scores


def test_the_label_map_has_the_largest_part_alone() -> None:
    """The whole transform, on a scan whose grid is the working grid: nothing else of the map changes."""
    scores = torch.zeros(3, 8, 4, 4)
    scores[1, :3], scores[1, 6], scores[2, 4] = 0.9, 0.9, 0.9
    meta = {"original_affine": torch.eye(4).numpy(), "spatial_shape": [8, 4, 4]}
    image = MetaTensor(torch.zeros(1, 8, 4, 4), affine=torch.eye(4), meta=meta)
    keep_largest = ScoresToScanLabelsd("pred", organs=["liver", "aorta"], one_piece=["liver", "heart"])
    labels = keep_largest({"image": image, "pred": scores})["pred"]
    assert labels[0, :, 0, 0].tolist() == [1, 1, 1, 0, 2, 0, 0, 0]
    everything = ScoresToScanLabelsd("pred")({"image": image, "pred": scores})["pred"]
    assert everything[0, :, 0, 0].tolist() == [1, 1, 1, 0, 2, 0, 1, 0]
