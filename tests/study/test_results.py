"""Stored results: what is appended and read back, costs, arms that count in every regime, and the table of trials."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from config_compositions import CONFIGS, ROOT
from PIL import Image
from torch import nn

from development.study.baseline_costs import NO_ROW, baseline_budgets, budget_table, multiply_adds
from development.study.baseline_costs import main as baseline_costs
from development.study.costs import main, stage_costs
from development.study.embed_command import Embedded, phase_silhouette, save_map, silhouette, summary
from development.study.embedding import at_random, blanked, table_rows
from development.study.results import (
    RUNS,
    SCORES,
    Results,
    _in_every_regime,
    core_seconds_by_stage,
    core_seconds_per_epoch,
)
from development.study.trials_table import GROUPS, differences_by, differences_by_fold, folds_of, trials_table
from development.study.trials_table import main as trials
from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.summary import read_scores, scores_frame
from scripts.prepare.btcv import TRAINING_CASES
from scripts.prepare.split import read_splits
from scripts.runtime.resume import save_atomically
from scripts.runtime.stage import epochs_of_both_stages

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
def test_a_stored_study_has_no_stray_files_and_every_run_has_scores(folder: Path) -> None:
    others = {"signals.csv.xz", "signs.jsonl.xz", "probe.csv.xz", "list.csv"}
    assert {path.name for path in folder.iterdir()} <= {SCORES, RUNS, *others}
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


def test_a_table_of_one_run_has_no_other(tmp_path: Path) -> None:
    scores(0.5).to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(ValueError, match="is of one run, it has no 'slice': leave out ::slice"):
        read_scores(f"{tmp_path / 'scores.csv'}::slice")


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


def test_costs_are_read_from_checkpoints_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_atomically({"epoch": 12, "seconds": 90.0, "peak_mib": 2048.0}, tmp_path / "coarse.pt")
    save_atomically({"organ_names": 0}, tmp_path / "model.pt")
    costs = {"epochs": 12, "core_seconds": 90.0, "wall_seconds": 90.0, "peak_memory_mib": 2048}
    assert stage_costs(str(tmp_path)) == {"coarse": costs}
    main([str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1].split() == "| coarse | 12 | 1.5 | 2.0 |".split()


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of a stage"):
        stage_costs(str(tmp_path))


def clusters(between_phases: float) -> Embedded:
    """Ten queries each of two organs, far apart, half of them in either phase, that far apart."""
    organs, phases = np.repeat([1, 2], 10), np.tile([0, 1], 10)
    points = np.stack([10.0 * organs, between_phases * phases], axis=1).astype(np.float32)
    points += np.random.default_rng(0).normal(0, 0.01, points.shape).astype(np.float32)
    return Embedded("AGSCL", points, organs, phases, ["liver", "left_kidney"], ["portal_venous", "non_contrast"])


def test_the_silhouette_is_near_one_where_classes_lie_apart_and_near_zero_where_they_mix() -> None:
    apart, mixed = clusters(1.0), clusters(0.0)
    assert silhouette(apart.points, apart.organs) > 0.8
    assert phase_silhouette(apart) > 0.95
    assert abs(phase_silhouette(mixed)) < 0.2, "the organs still lie apart, the phases within them do not"
    assert np.isnan(silhouette(apart.points, np.ones(20, dtype=np.int64)))


def test_phases_are_drawn_and_counted_only_where_there_are_several(tmp_path: Path) -> None:
    both = clusters(1.0)
    one_phase = replace(both, phases=np.zeros(20, dtype=np.int64), phase_names=[])
    assert len(summary(both)) == 2 and len(summary(one_phase)) == 1
    sizes = {}
    for name, run in (("both", both), ("one", one_phase)):
        save_map([run, run], tmp_path / f"{name}.png")
        sizes[name] = Image.open(tmp_path / f"{name}.png").size
    assert sizes["both"][1] == pytest.approx(2 * sizes["one"][1], abs=2)


ORGANS = [organ for organs in GROUPS.values() for organ in organs]


def rows_of(trial: str, seconds: int, dice_by_case: dict[str, float], run: str = "fold0") -> list[dict[str, object]]:
    return [
        {"trial": trial, "run": f"{trial}/{run}", "core_seconds": seconds, "organ": organ, "case": case, "dice": dice}
        | {"hd95_mm": 10 * dice, "surface_dice": dice + 0.1}
        for case, dice in dice_by_case.items()
        for organ in ORGANS
    ]


def test_a_trial_is_compared_with_the_reference_on_the_same_cases() -> None:
    rows = rows_of("slice", 90, {"a": 0.5, "b": 0.7}) + rows_of("both", 100, {"a": 0.6, "b": 0.8})
    best, reference = trials_table(pd.DataFrame(rows), ["slice", "both"]).splitlines()[2:]
    cells = [cell.strip() for cell in best.split("|")[1:-1]]
    assert cells == ["both", "100", "2", "0.700", "7", "0.800", "+10.0 (+10.0 to +10.0)", "", *["0.70"] * len(GROUPS)]
    assert "| -10.0 (-10.0 to -10.0) |" in reference
    assert "| slice |" in reference and "0.600" in reference


def test_organs_that_no_trial_has_leave_a_gap() -> None:
    few = [row for row in rows_of("slice", 90, {"a": 0.5}) if row["organ"] in ("liver", "spleen")]
    cells = [cell.strip() for cell in trials_table(pd.DataFrame(few), ["slice"]).splitlines()[2].split("|")[1:-1]]
    assert cells[-4:] == ["0.50", "nan", "nan", "nan"]


def test_folds_add_cases_and_seeds_are_averaged_case_by_case() -> None:
    rows = rows_of("slice", 90, {"a": 0.4}, "fold0_seed0") + rows_of("slice", 110, {"a": 0.6}, "fold0_seed1")
    rows += rows_of("slice", 100, {"b": 0.9}, "fold1_seed0")
    cells = [cell.strip() for cell in trials_table(pd.DataFrame(rows), ["slice"]).splitlines()[2].split("|")[1:-1]]
    assert cells[:4] == ["slice", "100", "2", "0.700"]


def test_the_difference_of_two_trials_is_shown_by_the_dice_of_a_third() -> None:
    rows = rows_of("slice", 1, {"a": 0.5, "b": 0.7, "c": 0.9}) + rows_of("both", 1, {"a": 0.4, "b": 0.8, "c": 0.9})
    rows += rows_of("coarse", 1, {"a": 0.2, "b": 0.9})
    table = differences_by(pd.DataFrame(rows), "both", "slice", "coarse").splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert [row[1:] for row in cells] == [[str(len(ORGANS)), "-10.0"], [str(len(ORGANS)), "+10.0"]]
    with pytest.raises(ValueError, match="no case in common"):
        differences_by(pd.DataFrame(rows), "both", "slice", "other")


def test_the_difference_of_two_trials_is_shown_by_the_folds_that_both_have() -> None:
    rows = pd.DataFrame(
        rows_of("slice", 1, {"a": 0.5, "d": 0.6}, "fold0_seed0")
        + rows_of("slice", 1, {"b": 0.7}, "fold1_seed0")
        + rows_of("slice", 1, {"c": 0.9}, "fold2_seed0")
        + rows_of("both", 1, {"a": 0.6, "d": 0.7}, "fold0_seed0")
        + rows_of("both", 1, {"b": 0.7}, "fold1_seed0")
    )
    table = differences_by_fold(rows, "both", "slice").splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert cells[0] == ["0", "2", "0.650", "0.550", "+10.0 (+10.0 to +10.0)"]
    assert [row[:2] for row in cells] == [["0", "2"], ["1", "1"]]
    with pytest.raises(ValueError, match="no fold in common"):
        differences_by_fold(rows, "both", "other")


def test_the_folds_of_the_stored_trials_are_a_split_for_training(tmp_path: Path) -> None:
    trials([str(ROOT / "docs/results/btcv"), "--reference", "slice baseline", "--folds", str(tmp_path / "folds.json")])
    folds = read_splits(str(tmp_path / "folds.json"), TRAINING_CASES)
    held_out = [sorted(case for case, split in fold.items() if split == "validation") for fold in folds]
    assert held_out[0] == ["img0001", "img0021", "img0022", "img0027", "img0029", "img0032"]
    assert sorted(sum(held_out, [])) == sorted(folds[0]) == list(TRAINING_CASES[:-6])
    dealt = list(TRAINING_CASES[:-6])
    random.Random(2015).shuffle(dealt)
    assert held_out == [sorted(dealt[n::4]) for n in range(4)]
    with pytest.raises(ValueError, match="1 folds, expected two"):
        folds_of(pd.DataFrame(rows_of("slice", 90, {"a": 0.5})), "slice")


def test_an_unknown_reference_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match="no trial other: choose one of slice"):
        trials_table(pd.DataFrame(rows_of("slice", 90, {"a": 0.5})), ["other"])


def test_multiply_adds_of_a_convolution_are_outputs_times_kernel() -> None:
    convolution = nn.Conv2d(3, 8, 5, padding=2)
    assert multiply_adds(convolution, [1, 3, 10, 12]) == 8 * 10 * 12 * 3 * 5 * 5


def test_a_lone_stage_gets_the_epochs_of_the_images_of_both() -> None:
    assert epochs_of_both_stages([4, 20, 48, 2], [16, 20, 48], [20, 48]) == 24
    assert epochs_of_both_stages([4, 20, 48, 2], [16, 20, 48], [20, 64]) == 18


@pytest.mark.slow
@pytest.mark.parametrize("below", [[], ["configs/data/abdomen.yaml"]], ids=["default", "abdomen"])
def test_all_arms_that_train_a_second_stage_see_as_many_images(below: list[str]) -> None:
    budgets = baseline_budgets([ROOT / name for name in below])
    assert len(budgets) == 1 + len([name for name in CONFIGS if "/baselines/" in name]) - len(NO_ROW)
    assert {row.images for row in budgets if row.method != "coarse"} == {budgets[0].images}
    assert all(row.parameters > 0 and row.training_macs > 0 for row in budgets)
    by_method = {row.method: row for row in budgets}
    assert by_method["slice"].coarse_patches == by_method["MedNeXt"].coarse_patches == 0
    assert by_method["coarse"].images == 0 < by_method["coarse"].coarse_patches
    lines = budget_table(budgets).splitlines()
    assert len(lines) == 2 + len(budgets) and len({line.count("|") for line in lines}) == 1


def test_a_config_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        baseline_costs(["configs/data/nothing.yaml"])
    assert "no such config: configs/data/nothing.yaml" in capsys.readouterr().err


def test_the_optional_package_has_one_version_in_both_requirement_files() -> None:
    pins = [
        [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line.startswith("einops==")]
        for name in ("requirements-baselines.txt", "requirements-dev.txt")
    ]
    assert pins[0] == pins[1] != []


def test_answers_count_by_organ_and_confusions_stand_behind_them() -> None:
    answers = [("a", "liver", "liver")] * 3 + [("a", "liver", "stomach"), ("b", "stomach", "stomach")]
    answers += [("b", "stomach", "left_kidney")] * 2 + [("b", "liver", "liver")] * 4
    frame = pd.DataFrame(answers, columns=["case", "organ", "found"]).assign(encoder="random", given="image")
    ((encoder, given, queries, share, confused),) = table_rows(frame)
    assert (encoder, given, queries) == ("random", "image", "11")
    assert share.startswith("0.604 (")  # of 7 / 8 and 1 / 3
    assert confused == "stomach as left kidney 2, liver as stomach 1"


def test_an_encoder_at_random_is_the_same_at_every_call_and_none_of_the_trained_one() -> None:
    trained = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    before = trained[0].weight.detach().clone()
    one, other = at_random(trained), at_random(trained)
    torch.testing.assert_close(one[0].weight, other[0].weight)
    assert not torch.allclose(one[0].weight, before) and torch.equal(trained[0].weight, before)


def test_blanked_channels_are_zero_and_the_others_as_before() -> None:
    views = torch.ones(2, 4, 3, 3)
    assert blanked(views, slice(-1, None))[:, :, 0, 0].tolist() == [[1, 1, 1, 0]] * 2
    assert blanked(views, slice(None, -1))[:, :, 0, 0].tolist() == [[0, 0, 0, 1]] * 2
    assert torch.equal(blanked(views, slice(0, 0)), views) and views.min() == 1
