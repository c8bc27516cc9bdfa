"""The table of trials: groups of organs, and the difference to a reference case by case."""

from __future__ import annotations

import pandas as pd
import pytest

from development.study.trials_table import GROUPS, trials_table

ORGANS = [organ for organs in GROUPS.values() for organ in organs]


def rows_of(trial: str, seconds: int, dice_by_case: dict[str, float], run: str = "fold0") -> list[dict[str, object]]:
    return [
        {"trial": trial, "run": f"{trial}/{run}", "core_seconds": seconds, "organ": organ, "case": case, "dice": dice}
        for case, dice in dice_by_case.items()
        for organ in ORGANS
    ]


def test_a_trial_is_compared_with_the_reference_on_the_same_cases() -> None:
    rows = rows_of("slice", 90, {"a": 0.5, "b": 0.7}) + rows_of("both", 100, {"a": 0.6, "b": 0.8})
    best, reference = trials_table(pd.DataFrame(rows), "slice").splitlines()[2:]
    cells = [cell.strip() for cell in best.split("|")[1:-1]]
    assert cells == ["both", "100", "2", "0.700", "+10.0 (+10.0 to +10.0)", *["0.70"] * len(GROUPS)]
    assert "| slice |" in reference and "0.600" in reference


def test_folds_add_cases_and_seeds_are_averaged_case_by_case() -> None:
    rows = rows_of("slice", 90, {"a": 0.4}, "fold0_seed0") + rows_of("slice", 110, {"a": 0.6}, "fold0_seed1")
    rows += rows_of("slice", 100, {"b": 0.9}, "fold1_seed0")
    cells = [cell.strip() for cell in trials_table(pd.DataFrame(rows), "slice").splitlines()[2].split("|")[1:-1]]
    assert cells[:4] == ["slice", "100", "2", "0.700"]


def test_an_unknown_reference_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match="no trial other: choose one of slice"):
        trials_table(pd.DataFrame(rows_of("slice", 90, {"a": 0.5})), "other")
