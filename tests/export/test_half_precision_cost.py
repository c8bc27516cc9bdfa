"""What half precision costs: the difference of two evaluations of the same cases, worked by hand and for real."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from config_compositions import ROOT
from tiny_bundle import make_bundle
from tiny_workflows import ABDOMEN

from scripts.evaluation.case_scores import CaseScore, Status
from scripts.evaluation.summary import read_scores, scores_frame
from scripts.export.half_precision_cost import cost, measure

Row = tuple[str, str, Status, float]


def scores(*rows: Row) -> pd.DataFrame:
    """Scores by case, organ, status and Dice."""
    return scores_frame(
        [
            CaseScore(case, organ, 1 + (organ == "liver"), status, dice, math.nan, math.nan, 1.0, 1.0)
            for case, organ, status, dice in rows
        ]
    )


def test_the_cost_is_the_mean_over_organs_of_the_mean_change_of_each() -> None:
    before = scores(("a", "spleen", "found", 0.9), ("b", "spleen", "found", 0.8), ("a", "liver", "found", 0.5))
    after = scores(("a", "spleen", "found", 0.88), ("b", "spleen", "found", 0.8), ("a", "liver", "found", 0.53))
    found = cost(before, after)
    assert found.macro == pytest.approx((-0.01 + 0.03) / 2)
    assert found.interval[0] <= found.macro <= found.interval[1]
    assert found.largest == pytest.approx(0.03) and found.where == "liver of a"
    assert found.statuses == 0


def test_an_organ_that_only_one_finds_counts_in_full_and_one_that_neither_finds_not_at_all() -> None:
    before = scores(("a", "spleen", "absent", math.nan), ("a", "liver", "absent", math.nan), ("b", "liver", "found", 1))
    after = scores(("a", "spleen", "spurious", 0.0), ("a", "liver", "absent", math.nan), ("b", "liver", "found", 1))
    found = cost(before, after)
    assert found.macro == pytest.approx((-1.0 + 0.0) / 2)
    assert found.statuses == 1 and found.where == "spleen of a"


def test_scores_of_other_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="scored different cases or organs"):
        cost(scores(("a", "spleen", "found", 1.0)), scores(("b", "spleen", "found", 1.0)))


def test_both_weights_are_scored_on_the_same_cases_and_the_difference_is_printed(
    phantom_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", organs=ABDOMEN["organs"])
    settings = {key: value for key, value in bundle.settings.items() if key != "model_path"}
    files = str(ROOT / "configs/evaluate.yaml")
    paths = {"dataset_dir": str(phantom_dir), "bundle_root": str(ROOT)}
    measure(str(bundle.model), str(tmp_path), "bfloat16", files, split="training", **paths, **settings)
    printed = capsys.readouterr().out
    assert "| original | bfloat16 |" in printed
    half = torch.load(tmp_path / "model_bfloat16.pt", weights_only=True)
    assert half["segmenter.encoder.stem.0.weight"].dtype is torch.bfloat16
    before, after = (read_scores(tmp_path / name / "scores.csv") for name in ("original", "bfloat16"))
    assert not before["dice"].equals(after["dice"]), "the second run did not use the rounded weights"
    assert f"macro mean Dice: {cost(before, after).macro:+.5f} with bfloat16 weights (95% " in printed
