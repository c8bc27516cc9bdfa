"""Stored results: what is appended and read back, what a run cost, and arms that count in every regime."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from config_compositions import ROOT

from development.study.results import (
    RUNS,
    SCORES,
    Results,
    _in_every_regime,
    core_seconds_by_stage,
    core_seconds_per_epoch,
)
from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.summary import read_scores, scores_frame

RECORD = {
    "arm": "supcon",
    "regime": "same",
    "stages": {
        "coarse_fold0": {"epochs": 5, "core_seconds": 50.0},
        "coarse": {"epochs": 8, "core_seconds": 81.0},
        "contrastive": {"epochs": 4, "core_seconds": 36.0},
        "segmentation": {"epochs": 20, "core_seconds": 190.0},
    },
}


def record(arm: str, seed: int) -> dict[str, object]:
    key = {"regime": "same", "labelled": 6, "arm": arm, "seed": seed}
    return {"run": f"same/6/{arm}/seed{seed}", **key, "title": arm, "members": [], "stages": {}}


def scores(dice: float) -> pd.DataFrame:
    rows = [CaseScore(case, "spleen", 1, "found", dice, 2.0, dice, 10.0, 11.0) for case in ("007", "NA")]
    return scores_frame([*rows, CaseScore("008", "spleen", 1, "missed", 0.0, math.nan, 0.0, 10.0, 0.0)])


def test_runs_are_appended_and_read_back(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.add(record("slice", 0), scores(0.8))
    first = {name: (tmp_path / "results" / name).read_bytes() for name in (SCORES, RUNS)}
    Results(tmp_path / "results").add(record("slice", 1), scores(0.25))
    for name, content in first.items():
        assert (tmp_path / "results" / name).read_bytes().startswith(content), "what is there is never written again"
    found, records = Results(tmp_path / "results").tables()
    assert found.groupby("seed")["dice"].max().to_dict() == {0: pytest.approx(0.8), 1: 0.25} and len(records) == 2
    assert found["case"].tolist() == ["007", "NA", "008"] * 2 and found["hd95_mm"].isna().sum() == 2


def test_rows_of_a_run_that_was_cut_short_before_its_record_do_not_count(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(record("slice", 0), scores(0.8))
    (tmp_path / RUNS).unlink()
    again = Results(tmp_path)
    assert not again.records
    again.add(record("slice", 0), scores(0.5))
    assert again.tables()[0]["dice"].tolist() == [0.5, 0.5, 0.0]


def test_one_run_of_a_table_of_several_is_read_by_its_name_and_seeds_by_that_of_all(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for arm, seed in (("slice", 0), ("slice", 1), ("slices", 0)):
        results.add(record(arm, seed), scores(0.5 + 0.1 * seed))
    one, both = (read_scores(f"{tmp_path / SCORES}::same/6/slice{part}") for part in ("/seed1", ""))
    assert one["dice"].tolist() == pytest.approx([0.6, 0.6, 0.0]) and set(one["seed"]) == {1}
    assert len(both) == 6 and set(both["seed"]) == {0, 1}
    with pytest.raises(ValueError, match="has no run 'same/6/unet': expected one of same/6/slice/seed0"):
        read_scores(f"{tmp_path / SCORES}::same/6/unet")


@pytest.mark.parametrize("folder", sorted((ROOT / "docs/results").iterdir()), ids=lambda folder: folder.name)
def test_a_stored_study_is_two_files_and_every_run_has_scores(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} <= {SCORES, RUNS}
    runs = Results(folder).records
    if (folder / SCORES).exists() and runs:
        assert set(read_scores(folder / SCORES)["run"]) == set(runs)


def test_what_an_epoch_costs_is_the_mean_over_the_networks_of_a_stage() -> None:
    assert core_seconds_per_epoch(RECORD) == {"coarse": 10.08, "contrastive": 9.0, "segmentation": 9.5}


def test_without_a_measurement_a_run_costs_what_it_took() -> None:
    assert core_seconds_by_stage(RECORD) == {
        "coarse": 131.0,
        "contrastive": 36.0,
        "segmentation": 190.0,
        "all_stages": 357.0,
    }


def test_with_one_it_costs_its_epochs_wherever_it_was_run() -> None:
    costs = {("same", "coarse_stage"): {"coarse": 10.0}, ("same", "supcon"): {"contrastive": 9.0, "segmentation": 8.0}}
    seconds = core_seconds_by_stage(RECORD, costs)
    assert seconds["coarse"] == 10.0 * (5 + 8)
    assert seconds["all_stages"] == pytest.approx(10.0 * 13 + 9.0 * 4 + 8.0 * 20)
    unknown = core_seconds_by_stage({**RECORD, "arm": "other"}, costs)
    assert math.isnan(unknown["segmentation"]) and unknown["coarse"] == 130.0


def test_a_mean_costs_what_its_members_cost() -> None:
    costs = {("same", "coarse_stage"): {"coarse": 10.0}, ("any", "slice"): {"segmentation": 13.0}}
    stages = {"coarse": {"epochs": 46, "core_seconds": 1.0}, "segmentation": {"epochs": 52, "core_seconds": 1.0}}
    mean = {"arm": "mean", "members": ["coarse", "slice"], "regime": "same", "stages": stages}
    assert core_seconds_by_stage(mean, costs)["all_stages"] == 460.0 + 676.0


def test_another_evaluation_of_an_arm_costs_what_the_arm_costs() -> None:
    costs = {("same", "coarse_stage"): {"coarse": 10.0}, ("same", "supcon"): {"contrastive": 9.0, "segmentation": 8.0}}
    again = {**RECORD, "arm": "supcon_mean", "members": ["supcon"]}
    assert core_seconds_by_stage(again, costs) == core_seconds_by_stage({**RECORD, "arm": "supcon"}, costs)


def test_an_arm_without_a_regime_counts_in_every_regime_of_as_many_labelled_patients() -> None:
    rows = [("any", 168), ("any", 6), ("any", 15), ("same", 168), ("same", 6), ("half", 168)]
    frame = pd.DataFrame(rows, columns=["regime", "labelled"]).assign(
        arm=lambda table: table["regime"].map(lambda regime: "slice" if regime == "any" else "supcon")
    )
    slices = _in_every_regime(frame).query("arm == 'slice'")
    found = sorted(zip(slices["regime"], slices["labelled"], strict=True))
    assert found == [("any", 15), ("half", 168), ("same", 6), ("same", 168)]
