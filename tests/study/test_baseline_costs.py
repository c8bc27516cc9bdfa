"""The table of costs: counted, and the same number of images for every arm that trains."""

from __future__ import annotations

import pytest
from config_compositions import CONFIGS, ROOT
from torch import nn

from development.study.baseline_costs import NO_ROW, baseline_budgets, budget_table, main, multiply_adds
from scripts.runtime.stage import epochs_of_both_stages


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
        main(["configs/data/nothing.yaml"])
    assert "no such config: configs/data/nothing.yaml" in capsys.readouterr().err


def test_the_optional_package_has_one_version_in_both_requirement_files() -> None:
    pins = [
        [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line.startswith("einops==")]
        for name in ("requirements-baselines.txt", "requirements-dev.txt")
    ]
    assert pins[0] == pins[1] != []
