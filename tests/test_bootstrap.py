"""The set-up on a bare machine: which Python it takes, when a `.venv` counts as ready, what the user is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from development import bootstrap

# Which Python


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_four_pythons_are_supported(version: tuple[int, int]) -> None:
    assert bootstrap.unsupported_python(version, works=lambda command: True) is None


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_another_python_is_told_the_newest_command_that_works(version: tuple[int, int]) -> None:
    message = bootstrap.unsupported_python(version, works=lambda command: command in ("python3.10", "python3.12"))
    assert message is not None
    assert f"{version[0]}.{version[1]}" in message and "3.10 to 3.13" in message
    assert "`python3.12 scripts/bootstrap.py`" in message


def test_where_no_python_fits_the_message_says_to_install_one() -> None:
    message = bootstrap.unsupported_python((3, 9), works=lambda command: False)
    assert message is not None and "Install one" in message


def test_an_unsupported_python_stops_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(bootstrap, "unsupported_python", lambda version, works: "too old")
    monkeypatch.setattr(bootstrap, "set_up", lambda profile: pytest.fail("must not be reached"))
    assert bootstrap.main(["demo"]) == 1
    assert "stopped: too old" in capsys.readouterr().err


# The stamp

STAMP = {"python": "3.11", "torch": "", "requirements": {"requirements.txt": "a", "requirements-dev.txt": "b"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"requirements": {"requirements.txt": "a"}}, True),  # the demo needs less than the tests installed
        ({"requirements": {"requirements.txt": "changed"}}, False),
        ({"python": "3.12"}, False),
        ({"torch": "torch==2.9.1"}, False),
    ],
)
def test_a_venv_is_ready_when_its_stamp_covers_what_is_wanted(change: dict[str, object], expected: bool) -> None:
    assert bootstrap.is_ready(STAMP, {**STAMP, **change}) is expected


def test_a_venv_with_the_users_own_torch_stays_ready_when_the_choice_is_not_repeated() -> None:
    assert bootstrap.is_ready({**STAMP, "torch": "torch==2.9.1"}, STAMP)


def test_a_venv_is_not_ready_once_the_torch_it_borrowed_is_gone(tmp_path: Path) -> None:
    assert bootstrap.is_ready({**STAMP, "borrowed": [str(tmp_path)]}, STAMP)
    assert not bootstrap.is_ready({**STAMP, "borrowed": [str(tmp_path / "gone")]}, STAMP)


def test_no_stamp_is_not_ready() -> None:
    assert not bootstrap.is_ready({}, STAMP)


def test_the_demo_does_not_depend_on_the_development_requirements() -> None:
    assert set(bootstrap.wanted_stamp("demo", "")["requirements"]) == {"requirements.txt"}
    assert set(bootstrap.wanted_stamp("test", "")["requirements"]) == {"requirements.txt", "requirements-dev.txt"}


# The commands


def test_the_quiet_commands_return_what_was_printed_and_nothing_on_failure() -> None:
    assert bootstrap.output_of(sys.executable, "-c", "print('yes')") == "yes"
    assert bootstrap.output_of(sys.executable, "-c", "print('no'); raise SystemExit(1)") == ""
    assert bootstrap.output_of("no-such-command-anywhere") == ""


def test_the_shown_commands_tell_success_from_failure() -> None:
    assert bootstrap.succeeds(sys.executable, "-c", "")
    assert not bootstrap.succeeds(sys.executable, "-c", "raise SystemExit(3)")


@pytest.mark.parametrize(
    ("line", "profile", "passed_on"),
    [
        (["demo"], "demo", []),
        (["demo", "--fast", "x"], "demo", ["--fast", "x"]),
        (["test", "--", "-k", "fusion"], "test", ["-k", "fusion"]),
        (["test", "-k", "fusion"], "test", ["-k", "fusion"]),
        (["env"], "env", []),
    ],
)
def test_arguments_after_the_command_are_passed_on(line: list[str], profile: str, passed_on: list[str]) -> None:
    assert bootstrap.parse_arguments(line) == (profile, passed_on)


@pytest.mark.parametrize("line", [[], ["tests"], ["env", "--fast"]])
def test_a_wrong_command_line_is_refused(line: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bootstrap.parse_arguments(line)


def test_the_program_runs_in_the_projects_folder_with_threads_that_wait_without_spinning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "set_up", lambda profile: None)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    seen: dict[str, object] = {}

    def record(command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        seen.update(command=command[1:], cwd=cwd, policy=env["OMP_WAIT_POLICY"])
        return subprocess.CompletedProcess(command, returncode=7)

    monkeypatch.setattr(bootstrap.subprocess, "run", record)
    assert bootstrap.main(["demo", "--fast"]) == 7
    assert seen == {"command": ["-m", "development.demo", "--fast"], "cwd": bootstrap.ROOT, "policy": "passive"}
    assert bootstrap.main(["env"]) == 0


def test_the_script_starts_from_any_folder(tmp_path: Path) -> None:
    script = Path(bootstrap.__file__)
    # Only the standard library: -S leaves out every installed package, -I the project's folder.
    command = [sys.executable, "-I", "-S", str(script), "--help"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env={**os.environ})
    assert finished.returncode == 0, finished.stderr
    assert "demo [ARGS]" in finished.stdout
