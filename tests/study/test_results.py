"""Stored results as tables: what a run cost, and arms that count in every regime."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from development.study.costs_command import per_epoch
from development.study.results import _in_every_regime, core_seconds_by_stage

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


def test_what_an_epoch_costs_is_the_mean_over_the_networks_of_a_stage() -> None:
    stages = RECORD["stages"]
    assert isinstance(stages, dict)
    assert per_epoch(stages, coarse=True) == {"coarse": 10.08, "contrastive": 9.0, "segmentation": 9.5}
    assert per_epoch(stages, coarse=False) == {"contrastive": 9.0, "segmentation": 9.5}, "it was handed over"


def test_without_a_measurement_a_run_costs_what_it_took() -> None:
    assert core_seconds_by_stage(RECORD) == {
        "coarse_core_seconds": 131.0,
        "contrastive_core_seconds": 36.0,
        "segmentation_core_seconds": 190.0,
        "training_core_seconds": 357.0,
    }


def test_with_one_it_costs_its_epochs_wherever_it_was_run() -> None:
    costs = {"same": {"coarse_stage": {"coarse": 10.0}, "supcon": {"contrastive": 9.0, "segmentation": 8.0}}}
    seconds = core_seconds_by_stage(RECORD, {"core_seconds_per_epoch": costs})
    assert seconds["coarse_core_seconds"] == 10.0 * (5 + 8)
    assert seconds["training_core_seconds"] == pytest.approx(10.0 * 13 + 9.0 * 4 + 8.0 * 20)
    unknown = core_seconds_by_stage({**RECORD, "arm": "other"}, {"core_seconds_per_epoch": costs})
    assert math.isnan(unknown["segmentation_core_seconds"]) and unknown["coarse_core_seconds"] == 130.0


def test_a_mean_costs_what_its_members_cost() -> None:
    costs = {"same": {"coarse_stage": {"coarse": 10.0}}, "any": {"slice": {"segmentation": 13.0}}}
    stages = {"coarse": {"epochs": 46, "core_seconds": 1.0}, "segmentation": {"epochs": 52, "core_seconds": 1.0}}
    mean = {"arm": "mean", "members": ["coarse", "slice"], "regime": "same", "stages": stages}
    assert core_seconds_by_stage(mean, {"core_seconds_per_epoch": costs})["training_core_seconds"] == 460.0 + 676.0


def test_another_evaluation_of_an_arm_costs_what_the_arm_costs() -> None:
    costs = {"same": {"coarse_stage": {"coarse": 10.0}, "supcon": {"contrastive": 9.0, "segmentation": 8.0}}}
    again = {**RECORD, "arm": "supcon_mean", "members": ["supcon"]}
    assert core_seconds_by_stage(again, {"core_seconds_per_epoch": costs}) == core_seconds_by_stage(
        {**RECORD, "arm": "supcon"}, {"core_seconds_per_epoch": costs}
    )


def test_an_arm_without_a_regime_counts_in_every_regime_of_as_many_labelled_patients() -> None:
    rows = [("any", 168), ("any", 6), ("any", 15), ("same", 168), ("same", 6), ("half", 168)]
    frame = pd.DataFrame(rows, columns=["regime", "labelled"]).assign(
        arm=lambda table: table["regime"].map(lambda regime: "slice" if regime == "any" else "supcon")
    )
    slices = _in_every_regime(frame).query("arm == 'slice'")
    found = sorted(zip(slices["regime"], slices["labelled"], strict=True))
    assert found == [("any", 15), ("half", 168), ("same", 6), ("same", 168)]
