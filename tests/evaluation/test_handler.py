"""The handler that scores: what trackers and federated clients read from the engine."""

from __future__ import annotations

import math

import pytest

from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.handler import dice_metrics
from scripts.evaluation.summary import scores_frame, summarise


def test_mean_dice_becomes_metrics_and_an_organ_without_a_score_none() -> None:
    rows = [("spleen", 1, "found", 0.9), ("liver", 2, "found", 0.7), ("aorta", 3, "absent", math.nan)]
    scores = [
        CaseScore("a", organ, index, status, dice, math.nan, math.nan, 1.0, 1.0)  # type: ignore[arg-type]
        for organ, index, status, dice in rows
    ]
    metrics = dice_metrics(summarise(scores_frame(scores)))
    assert metrics == {"dice/spleen": 0.9, "dice/liver": 0.7, "dice": pytest.approx(0.8)}
