"""What a plan says: runs in an order in which each finds what it needs, and one sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import ROOT, composed

from development.study.composition import OVERLAY, PREDICTOR, configs_of, settings_of, write_settings
from development.study.composition import composed as composed_arm
from development.study.plan import NO_REGIME, Plan, Run, read_plan
from development.study.results import Results
from development.study.run_command import extra_settings
from scripts.runtime.run_folder import changed_settings

PLAN = ROOT / "configs/study/plan.yaml"
RESULTS = ROOT / "docs/results"
PLANS = {"study": PLAN, "full_budget": ROOT / "configs/study/full_budget.yaml"}
"""Folders of stored results, and the plan of each."""
RETIRED = {"auxiliary_contrast", "decoder_contrast", "weak_attention_contrast"}
"""Arms that lost: their results are kept, their code is in version 0.8.0."""
STORED = [
    pytest.param(study, record, id=f"{study}-{run}")
    for study in PLANS
    for run, record in Results(RESULTS / study).records.items()
    if record["arm"] not in RETIRED
]


@pytest.fixture
def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    return loaded


def written(content: dict[str, Any], folder: Path) -> Plan:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_plan(path)


def test_every_run_stands_behind_those_that_it_needs_and_nothing_is_run_twice() -> None:
    plan = read_plan(PLAN)
    runs = plan.runs(list(plan.arms), list(plan.regimes), [168, 6], [0, 1], 168)
    assert len(set(runs)) == len(runs)
    for number, run in enumerate(runs):
        assert set(plan.needs(run)) <= set(runs[:number])


def test_an_arm_without_a_coarse_stage_is_run_once_for_all_regimes() -> None:
    runs = read_plan(PLAN).runs(["slice"], ["same", "half"], [168], [0], 168)
    assert runs == [Run("slice", NO_REGIME, 168, 0)]


def test_self_training_is_left_out_where_everybody_is_labelled() -> None:
    runs = read_plan(PLAN).runs(["self_training"], ["same"], [168, 6], [0], 168)
    assert {run.labelled for run in runs} == {6}


def test_arms_that_share_a_coarse_stage_have_its_settings_and_their_own() -> None:
    plan = read_plan(PLAN)
    stage = settings_of(plan, Run("coarse_stage", "half", 6, 1), 168, {})
    for name, arm in plan.arms.items():
        if arm.coarse == "shared" and not arm.members:
            settings = settings_of(plan, Run(name, "half", 6, 1), 168, {})
            # The coarse networks are trained alike; which of their maps an arm shows may differ.
            trained = [key for key in stage if key.startswith("coarse") and key != "coarse::stage::least_dice"]
            assert {key: settings[key] for key in trained} == {key: stage[key] for key in trained}
            assert settings["labelled_fraction"] == stage["labelled_fraction"] and settings["seed"] == stage["seed"]
    assert round(stage["labelled_fraction"] * 168) == 6 and stage["seed"] == 1
    assert settings_of(plan, Run("slice", NO_REGIME, 168, 0), 168, {})["labelled_fraction"] is None
    assert settings_of(plan, Run("slice", NO_REGIME, 168, 0), 168, {"encoder::name": "resnet50"})["encoder::name"] == (
        "resnet50"
    )


def test_every_arm_composes_with_the_trunk_and_its_settings_exist() -> None:
    plan = read_plan(PLAN)
    for name in plan.arms:
        parser = composed(tuple(configs_of(plan, name)))
        keys = settings_of(plan, plan.run_of(name, "same", 6, 0), 168, {})
        # The predictor's arguments are written only for arms that have it, see write_settings.
        assert [key for key in keys if key not in parser and not key.startswith(PREDICTOR)] == [], name


def test_settings_of_the_two_stage_predictor_are_not_written_for_another(tmp_path: Path) -> None:
    plan, key = read_plan(PLAN), "network_def::coarse_weight"
    for name, has_it in (("slice", False), ("mednext", False), ("mean", False), ("supcon", True), ("coarse", True)):
        settings = settings_of(plan, plan.run_of(name, "same", 6, 0), 168, {})
        write_settings(tmp_path, settings, composed_arm(plan, name))
        content = yaml.safe_load((tmp_path / OVERLAY).read_text("utf-8"))
        assert settings.keys() - content.keys() == (set() if has_it else {key})
    write_settings(tmp_path, {"network_def::passes": 2}, composed_arm(plan, "supcon"))
    assert yaml.safe_load((tmp_path / OVERLAY).read_text("utf-8")) == {"network_def::passes": 2}, "no config states it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "a study has"),
        ({"arms": {"slice": {"overlay": []}}}, r"the arm slice has the keys \['overlay'\]"),
        ({"arms": {"slice": {"coarse": "some"}, "coarse_stage": {"coarse": "own"}}}, "expected shared, own or none"),
        ({"arms": {"slice": {"coarse": "shared"}}}, "there is no arm coarse_stage"),
        ({"arms": {"m": {"coarse": "own", "members": ["x", "m"]}}}, "has the member 'x', which is no arm"),
        ({"arms": {"m": {"coarse": "own", "members": ["m", "m", "m"]}}}, "an arm has one or two, or none"),
        ({"arms": {"m": {"coarse": "own", "regime_settings": {"x": {}}}}}, "the regime 'x', which is not there"),
        (
            {"arms": {"m": {"coarse": "none", "regime_settings": {"same": {}}}}},
            "m has no coarse stage, so",
        ),
        ({"regimes": {"any": {}}}, "no regime may be called 'any'"),
    ],
)
def test_a_broken_plan_is_refused_with_one_sentence(
    change: dict[str, Any], message: str, content: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        written({**content, **change}, tmp_path)


def test_settings_of_the_command_line_are_read_as_yaml() -> None:
    assert extra_settings(["--a::b", "[1, 2]", "--c", "null"]) == {"a::b": [1, 2], "c": None}
    with pytest.raises(ValueError, match="are no settings"):
        extra_settings(["--a::b"])


@pytest.mark.parametrize(("study", "stored"), STORED)
def test_the_stored_results_are_those_of_the_plan_so_that_the_study_goes_on_from_them(
    study: str, stored: dict[str, Any]
) -> None:
    run = Run(stored["arm"], stored["regime"], stored["labelled"], stored["seed"])
    assert run.name == stored["run"]
    assert changed_settings(stored["settings"], settings_of(read_plan(PLANS[study]), run, 168, {})) == ""
