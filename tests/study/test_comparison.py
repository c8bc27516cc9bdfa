"""Paired comparisons: by hand, against worked examples, and what intervals have to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from development.study.comparison import compare, holm, main, paired_differences, patient_scores, signed_rank
from development.study.tables import organ_means, summary_of_arm
from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.summary import MACRO_ROW, read_scores, write_report

NAN = math.nan


def scores_of(arm: str, by_seed: Mapping[int, Sequence[Sequence[float]]]) -> pd.DataFrame:
    """Rows of an arm: for every seed, patients a, b, ... by organs liver, spleen."""
    rows = [
        {"arm": arm, "seed": seed, "case": "abcdefgh"[patient], "organ": organ, "class_index": place + 1, "dice": value}
        for seed, patients in by_seed.items()
        for patient, values in enumerate(patients)
        for place, (organ, value) in enumerate(zip(("spleen", "liver"), values, strict=True))
    ]
    return pd.DataFrame(rows).assign(hd95_mm=1.0, surface_dice=0.5)


def test_a_patient_counts_once_however_many_seeds_there_are() -> None:
    table = patient_scores(scores_of("x", {0: [[0.4, 0.8], [NAN, 0.5]], 1: [[0.6, 0.6], [NAN, 0.7]]}), "dice")
    assert table.columns.tolist() == ["spleen", "liver"], "in the order of the class indices"
    np.testing.assert_allclose(table.to_numpy(), [[0.5, 0.7], [NAN, 0.6]])


def test_differences_are_taken_within_patients_organs_and_the_seeds_that_both_have() -> None:
    one = scores_of("one", {0: [[0.5, 0.9], [0.3, 0.7]], 1: [[0.7, 0.7], [0.5, 0.7]], 2: [[0.0, 0.0], [0.0, 0.0]]})
    other = scores_of("other", {0: [[0.4, 0.8], [NAN, 0.5]], 1: [[0.4, 0.4], [NAN, 0.5]]})
    differences, seeds = paired_differences(pd.concat([one, other]), "one", "other", "dice")
    assert seeds == [0, 1]
    np.testing.assert_allclose(differences.to_numpy(), [[0.2, 0.2], [NAN, 0.2]])


def test_the_table_of_a_comparison_by_hand() -> None:
    reference = scores_of("slice", {0: [[0.5, 0.5], [0.5, 0.5], [0.5, NAN]]})
    better = scores_of("better", {0: [[0.7, 0.6], [0.6, 0.6], [0.6, NAN]]})
    table = compare(pd.concat([reference, better]), ["slice", "better", "absent"], "slice", "dice")
    assert table["arm"].tolist() == ["better"] and table["organ"].tolist() == [MACRO_ROW]
    row = table.iloc[0]
    # Organs weigh the same: spleen (.2 + .1 + .1) / 3, liver (.1 + .1) / 2.
    assert row["difference"] == pytest.approx((0.4 / 3 + 0.1) / 2)
    assert row["patients"] == 3 and row["seeds"] == 1
    # All three patients are better: of the 2 ** 3 signs two are as extreme.
    assert row["p"] == pytest.approx(2 / 8)
    by_organ = compare(pd.concat([reference, better]), ["better"], "slice", "dice", by_organ=True)
    assert by_organ["organ"].tolist() == ["spleen", "liver"]
    assert by_organ["patients"].tolist() == [3, 2]


def test_arms_without_a_common_seed_are_not_compared() -> None:
    scores = pd.concat([scores_of("one", {0: [[0.5, 0.5]]}), scores_of("other", {1: [[0.5, 0.5]]})])
    assert compare(scores, ["one"], "other", "dice").empty


def test_holm_against_a_worked_example() -> None:
    # Holm's procedure by hand: 4 x .01, 3 x .013, which may not fall below .04, 2 x .3, 1 x .4, which may not either.
    assert holm([0.3, 0.01, 0.4, 0.013]) == pytest.approx([0.6, 0.04, 0.6, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02, NAN])[0] == pytest.approx(0.02), "what was not tested does not count"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_keeps_their_order_and_is_no_worse_than_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= min(1.0, p * len(p_values)) + 1e-12 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_the_signed_rank_test_is_scipys_and_has_an_answer_where_nothing_differs() -> None:
    differences = np.array([0.1, -0.05, 0.2, NAN, 0.07, 0.3, 0.01])
    assert signed_rank(differences) == pytest.approx(stats.wilcoxon(differences[~np.isnan(differences)]).pvalue)
    assert signed_rank(np.zeros(5)) == 1.0
    assert math.isnan(signed_rank(np.array([NAN])))


def drawn(seed: int, patients: int, shift: float) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    base = random.normal(0.6, 0.1, (patients, 2))
    rows = {0: base.tolist()}, {0: (base + shift + random.normal(0, 0.05, (patients, 2))).tolist()}
    return pd.concat([scores_of("other", rows[0]), scores_of("one", rows[1])])


def scores_for(seed: int, patients: int, shift: float) -> pd.Series:
    return compare(drawn(seed, patients, shift), ["one"], "other", "dice").iloc[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_interval_holds_the_difference_and_comes_out_the_same_again(seed: int) -> None:
    row = scores_for(seed, 8, 0.02)
    assert row["low"] <= row["difference"] <= row["high"]
    again = scores_for(seed, 8, 0.02)
    assert (row["low"], row["high"]) == (again["low"], again["high"])


def test_an_interval_moves_with_the_difference_and_turns_with_the_sides() -> None:
    scores = drawn(3, 8, 0.0)
    moved = scores.assign(dice=scores["dice"].where(scores["arm"] == "other", scores["dice"] + 0.1))
    row, after = (compare(one, ["one"], "other", "dice").iloc[0] for one in (scores, moved))
    assert [after[end] - row[end] for end in ("low", "difference", "high")] == pytest.approx([0.1] * 3)
    turned = compare(scores, ["other"], "one", "dice").iloc[0]
    assert turned["difference"] == pytest.approx(-row["difference"])
    assert turned["low"] == pytest.approx(-row["high"], abs=2e-3) and turned["p"] == pytest.approx(row["p"])


def test_the_spread_of_seeds_is_told_apart_from_that_of_patients() -> None:
    rows = {0: [[0.4, 0.4], [0.8, 0.8]], 1: [[0.5, 0.5], [0.9, 0.9]]}
    summary = summary_of_arm(scores_of("x", rows), "dice")
    assert summary["mean"] == pytest.approx(0.65)
    assert summary["seed_sd"] == pytest.approx(np.std([0.6, 0.7], ddof=1))
    assert summary["patient_sd"] == pytest.approx(np.std([0.45, 0.85], ddof=1))
    assert (summary["patients"], summary["seeds"]) == (2, 2)
    assert summary["low"] == pytest.approx(0.45) and summary["high"] == pytest.approx(0.85)
    one_seed = summary_of_arm(scores_of("x", {0: rows[0]}), "dice")
    assert math.isnan(one_seed["seed_sd"])
    assert organ_means(scores_of("x", rows), "dice").to_dict() == pytest.approx({"spleen": 0.65, "liver": 0.65})


def evaluation(folder: Path, dice_of_patients: Sequence[float], first: int = 0) -> str:
    """An evaluation run of one organ; path of its scores.csv."""
    scores = [
        CaseScore(f"patient{n}", "liver", 1, "found", dice, 5.0 + dice, 0.5, 1.0, 1.0)
        for n, dice in enumerate(dice_of_patients, start=first)
    ]
    write_report(scores, folder, "Validation")
    return str(folder / "scores.csv")


def test_the_command_says_by_how_much_a_run_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = evaluation(tmp_path / "a", [0.5, 0.6, 0.7]), evaluation(tmp_path / "b", [0.52, 0.62, 0.72])
    main([before, after, "--names", "before", "after"])
    header, _, row = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.split("|")[1:4]] == ["dice against before", "seeds", "patients"]
    # Two points in every patient: there is nothing to resample, and of 2 ** 3 signs two are as extreme.
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["after", "1", "3", "+2.0", "+2.0 to +2.0", ".250", ".250"]
    main([before, after, "--metric", "hd95_mm", "--by_organ"])
    header, _, row = capsys.readouterr().out.splitlines()
    # HD95 stays in mm: .02 of them.
    cells = [cell.strip() for cell in row.split("|")[2:6]]
    assert "hd95_mm against a" in header and cells == ["liver", "1", "3", "+0.0"]


def test_folds_of_a_run_are_joined_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        evaluation(tmp_path / f"{name}{fold}", [level, level + 0.1], first=2 * fold)
        for name, level in (("a", 0.5), ("b", 0.52))
        for fold in (0, 1)
    ]
    main([*files, "--names", "a", "a", "b", "b"])
    row = capsys.readouterr().out.splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:5]] == ["b", "1", "4", "+2.0"]


def test_runs_of_different_seeds_are_compared_one_to_one_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "scores.csv"
    rows = [
        read_scores(evaluation(tmp_path / run, [0.5, 0.6])).assign(run=f"{run}/seed{n}") for n, run in enumerate("xy")
    ]
    pd.concat(rows).to_csv(table, index=False)
    main([f"{table}::x/seed0", f"{table}::y/seed1"])
    assert "y/seed1" in capsys.readouterr().out
    two = pd.concat([rows[0].assign(run="z/seed4"), rows[0].assign(run="z/seed5")])
    pd.concat([*rows, two]).to_csv(table, index=False)
    with pytest.raises(SystemExit):
        main([f"{table}::x/seed0", f"{table}::z"])
    assert "share no seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("patients", "names", "message"),
    [
        (3, ["x"], "the files need a name each, two different ones or more, got ['x']"),
        (3, ["x", "x"], "the files need a name each, two different ones or more, got ['x', 'x']"),
        (0, ["x", "y"], "y and x share no patient: give runs that were scored on the same ones"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    patients: int, names: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = evaluation(tmp_path / "one", [0.5, 0.6, 0.7])
    other = evaluation(tmp_path / "other", [0.5, 0.6, 0.7], first=3 - patients)
    with pytest.raises(SystemExit):
        main([one, other, "--names", *names])
    assert message in capsys.readouterr().err
