"""The one command behind continuous integration: every check runs, and the exit code tells the truth."""

from __future__ import annotations

import pytest

from development import checks


def test_every_check_runs_and_one_that_fails_decides_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(checks, "CHECKS", {"first": ["json.tool", "--no-such-option"], "second": ["this"]})
    assert checks.main([]) == 1
    summary = capsys.readouterr().out.split("== summary")[1]
    assert "FAILED  first" in summary and "ok      second" in summary


def test_with_arguments_only_pytest_runs_and_without_the_coverage_asked_for() -> None:
    assert checks.chosen_checks(["-k", "fusion"]) == {"pytest": ["pytest", "-k", "fusion"]}
    assert "--cov-fail-under=90" in checks.chosen_checks([])["pytest"]


def test_passing_checks_give_exit_code_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {"only": ["this"]})
    assert checks.main([]) == 0
