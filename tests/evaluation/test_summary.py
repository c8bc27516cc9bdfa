"""Averages over patients, their intervals, the files of a report and the table of several methods."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.intervals import macro_interval, macro_mean
from scripts.evaluation.summary import (
    MACRO_ROW,
    format_table,
    main,
    patients_to_look_at,
    read_scores,
    scores_frame,
    summarise,
    write_report,
)
from scripts.files.atomic_write import replacing

NAN = math.nan


def found(case: str, organ: str, class_index: int, dice: float, hd95_mm: float = 5.0) -> CaseScore:
    return CaseScore(case, organ, class_index, "found", dice, hd95_mm, dice, 10.0, 11.0)


SCORES = [
    # The second organ comes first: its order must come from the class index.
    found("001", "liver", 2, 0.9, 4.0),
    found("001", "spleen", 1, 0.8, 2.0),
    found("002", "spleen", 1, 0.6, 3.0),
    CaseScore("003", "spleen", 1, "missed", 0.0, NAN, 0.0, 10.0, 0.0),
    CaseScore("004", "spleen", 1, "absent", NAN, NAN, NAN, 0.0, 0.0),
    CaseScore("002", "liver", 2, "spurious", 0.0, NAN, 0.0, 0.0, 7.0),
]


def test_best_median_and_worst_patient_are_named_by_their_mean_dice() -> None:
    # 001: (.9 + .8) / 2; 002: (.6 + 0) / 2; 003: 0; of 004 nothing can be said.
    looked_at = patients_to_look_at(scores_frame(SCORES))
    assert looked_at == {
        "best": ("001", pytest.approx(0.85)),
        "median": ("002", pytest.approx(0.3)),
        "worst": ("003", 0.0),
    }
    assert patients_to_look_at(scores_frame(SCORES[:1]))["worst"] == ("001", 0.9)
    assert patients_to_look_at(scores_frame(SCORES[4:5])) == {}


@pytest.fixture
def summary() -> pd.DataFrame:
    return summarise(scores_frame(SCORES))


def test_organs_stand_in_the_order_of_their_class_index_and_the_macro_mean_last(summary: pd.DataFrame) -> None:
    assert list(summary.index) == ["spleen", "liver", MACRO_ROW]


def test_a_missed_organ_lowers_the_mean_dice_and_an_absent_one_does_not_count(summary: pd.DataFrame) -> None:
    spleen = summary.loc["spleen"]
    assert spleen["patients"] == 3
    assert (spleen["missed"], spleen["spurious"], spleen["absent"]) == (1, 0, 1)
    assert spleen["dice_mean"] == pytest.approx((0.8 + 0.6 + 0.0) / 3)
    assert spleen["dice_median"] == pytest.approx(0.6)
    # Squared deviations from 1.4 / 3, over n - 1 = 2.
    assert spleen["dice_std"] == pytest.approx(math.sqrt(((1 / 3) ** 2 + (0.4 / 3) ** 2 + (1.4 / 3) ** 2) / 2))
    assert spleen["hd95_mm_mean"] == pytest.approx(2.5)


def test_the_macro_mean_weighs_every_organ_the_same(summary: pd.DataFrame) -> None:
    # Spleen 1.4 / 3 over three patients, liver 0.45 over two; not 2.3 / 5 over all rows.
    assert summary.loc[MACRO_ROW, "dice_mean"] == pytest.approx((1.4 / 3 + 0.45) / 2)
    assert summary.loc[MACRO_ROW, "patients"] == 3
    assert summary.loc[MACRO_ROW, "missed"] == 1
    assert summary.loc[MACRO_ROW, "spurious"] == 1
    assert math.isnan(summary["dice_median"][MACRO_ROW])


def test_macro_mean_leaves_out_an_organ_without_scores() -> None:
    assert macro_mean(np.array([[0.2, NAN, NAN], [0.4, 0.9, NAN]])) == pytest.approx((0.3 + 0.9) / 2)
    assert np.isnan(macro_mean(np.array([[NAN, NAN]])))


@settings(max_examples=15, deadline=None)
@given(arrays(float, st.tuples(st.integers(2, 8), st.integers(1, 3)), elements=st.sampled_from([NAN, 0.0, 0.5, 0.9])))
def test_the_interval_holds_the_mean_and_is_the_same_every_time(scores: np.ndarray) -> None:
    low, high = macro_interval(scores)
    if np.isfinite(scores).any(axis=1).sum() < 2:
        assert math.isnan(low) and math.isnan(high)
        return
    # Partly contoured patients may pull the resampled macro means to one side, so only full rows promise the mean.
    if np.isfinite(scores).all():
        assert low - 1e-12 <= macro_mean(scores) <= high + 1e-12
    assert (low, high) == macro_interval(scores)
    assert np.nanmin(scores) - 1e-12 <= low <= high <= np.nanmax(scores) + 1e-12


def test_the_interval_of_two_patients_reaches_from_one_to_the_other() -> None:
    # Resamples of two: both the first (1/4), both the second (1/4), or one each (1/2).
    assert macro_interval(np.array([[0.2], [0.6]])) == pytest.approx((0.2, 0.6))


def test_the_interval_of_many_patients_is_that_of_the_normal_approximation() -> None:
    dice = np.random.default_rng(3).normal(0.8, 0.1, 400)
    low, high = macro_interval(dice[:, None])
    error = dice.std(ddof=1) / math.sqrt(400)
    assert low == pytest.approx(dice.mean() - 1.96 * error, abs=0.05 * error * 2)
    assert high == pytest.approx(dice.mean() + 1.96 * error, abs=0.05 * error * 2)


def test_organs_of_one_patient_are_drawn_together() -> None:
    # Two organs that always fail in the same patient carry no more information than one of them.
    dice = np.linspace(0.3, 0.9, 12)[:, None]
    assert macro_interval(np.hstack([dice, dice])) == pytest.approx(macro_interval(dice))


def test_a_single_patient_has_no_interval() -> None:
    summary = summarise(scores_frame([found("001", "spleen", 1, 0.8)]))
    assert summary.loc["spleen", "dice_mean"] == 0.8
    assert math.isnan(summary["dice_low"]["spleen"])


def test_scores_that_cannot_be_summarised_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores to summarise"):
        summarise(scores_frame([]))
    with pytest.raises(ValueError, match=r"More than one score for \['001', 'spleen'\]"):
        summarise(scores_frame([found("001", "spleen", 1, 0.8), found("001", "spleen", 1, 0.7)]))


def test_a_report_holds_every_score_and_can_be_read_back(tmp_path: Path) -> None:
    names = [found(case, "spleen", 1, 1 / 3) for case in ("007", "NA", "1e5")]
    written = write_report([*SCORES, *names], tmp_path / "report", "Validation")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "dice.png",
        "scores.csv",
        "summary.csv",
        "summary.json",
    ]
    scores = read_scores(tmp_path / "report" / "scores.csv")
    pd.testing.assert_frame_equal(scores, scores_frame([*SCORES, *names]))
    pd.testing.assert_frame_equal(summarise(scores), written)
    assert (tmp_path / "report" / "dice.png").read_bytes().startswith(b"\x89PNG")


def test_the_json_summary_names_what_it_holds_and_writes_null_for_what_is_unknown(tmp_path: Path) -> None:
    write_report(SCORES, tmp_path, "Validation")
    # NaN is no JSON: strict readers would refuse the file.
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["title"] == "Validation"
    assert content["interval"]["confidence"] == 0.95
    assert list(content["organs"]) == ["spleen", "liver"]
    assert content["organs"]["spleen"]["patients"] == 3
    assert content["macro_mean"]["dice_mean"] == pytest.approx((1.4 / 3 + 0.45) / 2)
    assert content["macro_mean"]["dice_median"] is None


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half a ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_puts_methods_side_by_side() -> None:
    def two_patients(*dice: float) -> pd.DataFrame:
        return summarise(scores_frame([found(str(case), "left_kidney", 1, value) for case, value in enumerate(dice)]))

    table = format_table({"coarse": two_patients(0.5, 0.7), "final": two_patients(0.8, 1.0, 0.9012)})
    assert table.splitlines()[0] == "| organ       | patients | coarse | final | coarse 95% |  final 95% |"
    assert table.splitlines()[1] == "|:------------|---------:|-------:|------:|-----------:|-----------:|"
    assert table.splitlines()[2] == "| left kidney |    2 / 3 |   .600 |  .900 |  .500-.700 | .800-1.000 |"
    assert table.splitlines()[3] == "| macro mean  |    2 / 3 |   .600 |  .900 |  .500-.700 | .800-1.000 |"


def test_the_table_marks_what_a_method_has_no_score_for(summary: pd.DataFrame) -> None:
    table = format_table({"all": summary, "one": summarise(scores_frame([found("001", "aorta", 3, 0.85)]))})
    assert "| aorta      |    - / 1 |    - | .850 |" in table
    assert "| spleen     |    3 / - | .467 |    - |" in table


def test_the_command_prints_the_table_of_the_runs_it_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = write_report(SCORES, tmp_path / "coarse", "Coarse")
    files = [str(tmp_path / "coarse" / "scores.csv")] * 2
    main([*files, "--names", "first", "second"])
    assert capsys.readouterr().out == format_table({"first": summary, "second": summary}) + "\n"
    main(files[:1])
    assert "| coarse |" in capsys.readouterr().out


def test_means_over_other_cases_are_not_compared_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As many patients in both, of two folds: the table alone would show one method better than the other.
    for name, case in (("coarse", "001"), ("final", "002"), ("again", "001")):
        write_report([found(case, "aorta", 1, 0.8)], tmp_path / name, "x")
    coarse, final, again = (str(tmp_path / name / "scores.csv") for name in ("coarse", "final", "again"))
    main([coarse, final])
    assert capsys.readouterr().out.endswith("\nNot the same contours were scored: these means do not compare.\n")
    main([coarse, again])
    assert "Not the same" not in capsys.readouterr().out


def test_the_folds_of_a_cross_validation_are_pooled_to_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = [[found("001", "aorta", 1, 0.8), found("002", "aorta", 1, 0.6)], [found("003", "aorta", 1, 1.0)]]
    for number, fold in enumerate(folds):
        write_report(fold, tmp_path / f"fold{number}", "x")
    files = [str(tmp_path / f"fold{number}" / "scores.csv") for number in (0, 1)]
    main([*files, "--pool"])
    assert "| aorta      |        3 |    .800 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="More than one score for"):
        main([files[0], *files, "--pool"])


def test_the_command_wants_as_many_names_as_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["a/scores.csv", "b/scores.csv", "--names", "coarse"])
    assert "2 files need as many different names" in capsys.readouterr().err


def test_a_file_that_holds_no_scores_is_named(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text("organ,dice\nspleen,0.8\n")
    with pytest.raises(ValueError, match=r"summary.csv lacks the columns \['case'"):
        read_scores(tmp_path / "summary.csv")
