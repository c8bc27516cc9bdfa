"""The set-up on a bare machine: which Python it takes, when a .venv is ready, and every step, recorded, not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from development import bootstrap, checks
from development.bootstrap import OLDEST_TORCH, InstalledTorch, is_reusable, with_torch
from scripts.torch_choice import CPU_BUILDS, pinned_torch, torch_attempts

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


ROOT = Path(__file__).resolve().parents[1]
PIN = "torch==9.8.7"


def arguments_of_attempts(system: str, has_gpu: bool, override: str = "") -> list[list[str]]:
    return [attempt.pip_arguments for attempt in torch_attempts(PIN, system, has_gpu, override)]


def test_with_an_nvidia_gpu_the_default_index_is_used() -> None:
    assert arguments_of_attempts("Linux", has_gpu=True) == [[PIN]]


@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_without_a_gpu_the_cpu_build_comes_first_and_the_default_index_is_the_way_out(system: str) -> None:
    cpu, anywhere = arguments_of_attempts(system, has_gpu=False)
    assert cpu == [PIN, "--index-url", CPU_BUILDS, "--timeout", "10", "--retries", "0"]
    assert anywhere == [PIN]


def test_macos_has_only_one_build() -> None:
    assert arguments_of_attempts("Darwin", has_gpu=False) == [[PIN]]


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_users_own_choice_wins_over_everything(has_gpu: bool) -> None:
    assert arguments_of_attempts("Linux", has_gpu, override="/wheels/torch.whl") == [["/wheels/torch.whl"]]


def test_the_download_of_several_gigabytes_is_announced() -> None:
    assert "3 GB" in torch_attempts(PIN, "Linux", False, "")[-1].announcement
    assert "3 GB" in torch_attempts(PIN, "Linux", True, "")[-1].announcement


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.7.1", False), ("2.8.0", True), ("2.13.0+cpu", True), ("2.10.0a0+git1", True), ("1.13.1", False), ("?", False)],
)
def test_a_torch_already_there_is_used_when_recent_enough(version: str, expected: bool) -> None:
    assert OLDEST_TORCH == (2, 8)  # the versions above are chosen around it
    assert is_reusable(InstalledTorch(version, ["/site-packages"])) is expected


def test_no_torch_is_not_reusable() -> None:
    assert not is_reusable(None)


# The pin


def test_the_pin_is_found_among_look_alikes_and_without_its_comment() -> None:
    assert pinned_torch("# torch==1.0\npytorch-ignite==1\ntorchvision==1\ntorch==2.13.0  # why\n") == "torch==2.13.0"


def test_requirements_without_a_pin_say_what_to_put_back() -> None:
    with pytest.raises(ValueError, match="torch==VERSION"):
        pinned_torch("monai==1.6.1\n")


def test_the_torch_in_place_replaces_the_pin_and_nothing_else() -> None:
    requirements = "torch==2.13.0\npytorch-metric-learning==2.9.0\n"
    expected = "torch==2.9.1+cu130\npytorch-metric-learning==2.9.0\n"
    assert with_torch(requirements, InstalledTorch("2.9.1+cu130", [])) == expected


def test_every_requirement_of_the_project_is_pinned_for_each_python() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            assert line.startswith("#") or "==" in line.split(";")[0], f"{name}: {line}"


THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Machine:
    """Stands in for the commands: records those shown, answers the quiet ones, and fails those that hold a word."""

    def __init__(self, venv: Path, torch_inside: str = "9.8.7+cpu", failing: str = "nothing") -> None:
        self.venv, self.torch_inside, self.failing = venv, torch_inside, failing
        self.commands: list[str] = []
        self.requirements = ""
        (venv / "bin").mkdir(parents=True)
        (venv / "site-packages").mkdir()

    def succeeds(self, *command: str | Path) -> bool:
        self.commands.append(" ".join(str(part) for part in command))
        if command[-2] == "-r":
            self.requirements = Path(command[-1]).read_text(encoding="utf-8")
        return self.failing not in self.commands[-1]

    def output_of(self, *command: str | Path) -> str:
        program = str(command[-1])
        if "purelib" in program:
            return str(self.venv / "site-packages")
        if "import torch" in program or "sys, torch" in program:
            return json.dumps([self.torch_inside, [str(self.venv)]]) if self.torch_inside else ""
        return THIS_PYTHON if "import pip" in program else ""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "VENV", made.venv)
    monkeypatch.setattr(bootstrap, "succeeds", made.succeeds)
    monkeypatch.setattr(bootstrap, "output_of", made.output_of)
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None if name == "torch" else name)
    monkeypatch.delenv("AGSCL_TORCH", raising=False)
    python = bootstrap.venv_python()
    python.parent.mkdir(exist_ok=True)
    python.touch()
    return made


def test_a_set_up_installs_the_cpu_build_then_the_packages_around_it_and_the_next_does_nothing(
    machine: Machine,
) -> None:
    bootstrap.set_up("test")
    torch, packages = machine.commands
    assert CPU_BUILDS in torch
    assert " -r " in packages
    assert "torch==9.8.7+cpu\n" in machine.requirements and "pytest==" in machine.requirements

    machine.commands.clear()
    bootstrap.set_up("test")
    bootstrap.set_up("demo")
    assert machine.commands == []


def test_where_the_cpu_builds_cannot_be_reached_the_default_index_is_tried(machine: Machine) -> None:
    machine.failing = CPU_BUILDS
    bootstrap.set_up("demo")
    assert [CPU_BUILDS in command for command in machine.commands] == [True, False, False]
    assert machine.commands[1].endswith("install --quiet torch==2.13.0")


def test_a_set_up_that_fails_leaves_no_stamp_and_says_what_to_do(machine: Machine) -> None:
    machine.failing = " -r "
    with pytest.raises(bootstrap.SetupError, match="try again"):
        bootstrap.set_up("demo")
    assert not (machine.venv / "agscl-stamp.json").exists()


def test_where_no_torch_can_be_installed_the_message_names_the_override(machine: Machine) -> None:
    machine.failing = "torch=="
    with pytest.raises(bootstrap.SetupError, match="AGSCL_TORCH"):
        bootstrap.set_up("demo")


def test_a_torch_that_does_not_import_stops_the_set_up(machine: Machine) -> None:
    machine.torch_inside = ""
    with pytest.raises(bootstrap.SetupError, match="does not import"):
        bootstrap.set_up("demo")


def test_the_torch_of_the_running_python_is_borrowed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: name)
    bootstrap.set_up("demo")
    assert len(machine.commands) == 1 and " -r " in machine.commands[0]  # no torch is installed
    link = machine.venv / "site-packages" / "agscl_borrowed_torch.pth"
    assert link.read_text(encoding="utf-8") == f"{machine.venv}\n"
    assert json.loads((machine.venv / "agscl-stamp.json").read_text())["borrowed"] == [str(machine.venv)]


def test_a_torch_that_is_too_old_is_not_borrowed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: name)
    machine.torch_inside = "2.1.0"
    bootstrap.set_up("demo")
    assert CPU_BUILDS in machine.commands[0]


def test_a_borrowed_torch_that_fails_in_the_venv_is_given_back(machine: Machine) -> None:
    machine.torch_inside = ""  # nothing imports inside
    assert not bootstrap.borrow_torch(InstalledTorch("2.13.0", ["/elsewhere"]))
    assert list((machine.venv / "site-packages").iterdir()) == []


def test_a_wheel_given_by_a_relative_path_is_found_from_the_users_folder(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGSCL_TORCH", "torch-9.8.7.whl")
    bootstrap.set_up("demo")
    assert machine.commands[0].endswith(str(tmp_path.resolve() / "torch-9.8.7.whl"))


def test_a_venv_of_another_python_is_made_afresh(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "output_of", lambda *command: "2.7")
    bootstrap.make_venv()
    assert machine.commands == [f"{sys.executable} -m venv --clear {machine.venv}"]
    machine.failing = "venv"
    with pytest.raises(bootstrap.SetupError, match="disk space"):
        bootstrap.make_venv()


def test_a_debian_python_without_venv_is_told_the_package(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "output_of", lambda *command: "")
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match=f"apt install python{THIS_PYTHON}-venv"):
        bootstrap.make_venv()
