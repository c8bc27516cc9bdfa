"""The whole set-up of a machine, step by step. Nothing is installed: commands are recorded instead of run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from development import bootstrap
from development.bootstrap import InstalledTorch
from scripts.torch_choice import CPU_BUILDS

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
