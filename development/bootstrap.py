"""Set the project up on a bare machine, then run its demonstration or its tests.

    python3 scripts/bootstrap.py demo     # the first result; scripts/bootstrap.py runs this file
    python3 scripts/bootstrap.py test     # every check and every test

Needs only Python and a network: standard library, no package installed beforehand. Everything goes to `.venv` in the
project's folder; a second call finds it ready and starts at once. The build of torch is chosen for the machine (see
`torch_attempts`); if your Python already has a recent PyTorch, it is reused.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# Started as a script, Python looks for modules in the folder of the script and not in the project's folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.torch_choice import pinned_torch, torch_attempts

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
THIS_PYTHON = "{}.{}".format(*sys.version_info)
OLDEST_TORCH = (2, 8)  # what the pinned monai asks for
# Prints the version that pip knows torch by, and the folders that hold it and what it imports.
LOOK_FOR_TORCH = """
import importlib.metadata, json, pathlib, sys, torch
folders = [str(pathlib.Path(torch.__file__).parents[1])]
folders += [f for f in sys.path if f.endswith(("site-packages", "dist-packages")) and f not in folders]
print(json.dumps([importlib.metadata.version("torch"), folders]))
"""
FOR_USE, FOR_DEVELOPMENT = ["requirements.txt"], ["requirements.txt", "requirements-dev.txt"]
REQUIREMENTS = {"demo": FOR_USE, "test": FOR_DEVELOPMENT, "env": FOR_DEVELOPMENT}
PROGRAM = {"demo": "development.demo", "test": "development.checks"}


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


class InstalledTorch(NamedTuple):
    """A torch that an interpreter can import: its version, and the import folders it needs."""

    version: str
    folders: list[str]


def unsupported_python(version: tuple[int, int], works: Callable[[str], object]) -> str | None:
    """Say what to do when the running Python is too old or too new; `works` tells whether a command runs here."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return None
    numbers = (*version, *OLDEST_PYTHON, *NEWEST_PYTHON)
    message = "this is Python {}.{}, and the project needs {}.{} to {}.{}. ".format(*numbers)
    newest_first = [f"python3.{minor}" for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1)]
    found = next((command for command in newest_first if works(command)), None)
    return message + (f"Use `{found} scripts/bootstrap.py`." if found else "Install one and run this script with it.")


def wanted_stamp(profile: str, override: str) -> dict[str, Any]:
    """Describe the `.venv` that a profile needs: Python, requirement files by hash, the user's own torch."""
    hashes = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in REQUIREMENTS[profile]}
    return {"python": THIS_PYTHON, "torch": override, "requirements": hashes}


def is_ready(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the stamp found in the `.venv` covers the wanted one, and what it borrows from outside still exists."""
    return (
        found.get("python") == wanted["python"]
        and wanted["torch"] in ("", found.get("torch"))
        and wanted["requirements"].items() <= found.get("requirements", {}).items()
        and all(os.path.isdir(folder) for folder in found.get("borrowed", []))
    )


def venv_python() -> Path:
    """Return the interpreter of the `.venv`."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def say(text: str) -> None:
    """Tell the user, at once even when the output is a file."""
    print(f"[bootstrap] {text}", flush=True)


def succeeds(*command: str | Path) -> bool:
    """Run a command with its output shown, and say whether it succeeded."""
    return subprocess.run(command, cwd=ROOT).returncode == 0


def output_of(*command: str | Path) -> str:
    """Run a command quietly; return what it printed, or nothing when it failed."""
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def torch_of(python: str | Path) -> InstalledTorch | None:
    """Find the torch that an interpreter imports; None where that fails."""
    printed = output_of(python, "-c", LOOK_FOR_TORCH)
    return InstalledTorch(*json.loads(printed.splitlines()[-1])) if printed else None


def is_reusable(torch: InstalledTorch | None) -> bool:
    """Whether a torch found outside the `.venv` is recent enough for the pinned packages."""
    release = re.match(r"(\d+)\.(\d+)", torch.version) if torch else None
    return release is not None and (int(release[1]), int(release[2])) >= OLDEST_TORCH


def with_torch(requirements: str, installed: InstalledTorch) -> str:
    """Replace the torch pin by the version in place, so that no package pulls in another torch."""
    return requirements.replace(pinned_torch(requirements), f"torch=={installed.version}")


def make_venv() -> None:
    """Make `.venv` afresh, unless it works and has the running Python's version."""
    if output_of(venv_python(), "-c", "import pip, sys; print('{}.{}'.format(*sys.version_info))") == THIS_PYTHON:
        return
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python{THIS_PYTHON}-venv"
        raise SetupError(f"this Python cannot make virtual environments. On Debian or Ubuntu: `apt install {package}`.")
    say(f"making {VENV} (under a minute)")
    if not succeeds(sys.executable, "-m", "venv", "--clear", VENV):
        raise SetupError(f"{VENV} could not be made: see above. Is there disk space, and may you write there?")


def borrow_torch(torch: InstalledTorch | None) -> bool:
    """Let the `.venv` import the running Python's torch; what pip installs in the `.venv` comes first.

    A `.pth` file and not `--system-site-packages`: that one skips the packages of a virtual environment.
    """
    site_packages = Path(output_of(venv_python(), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    link = site_packages / "agscl_borrowed_torch.pth"
    link.unlink(missing_ok=True)
    if torch is None or not is_reusable(torch):
        return False
    link.write_text("\n".join(torch.folders) + "\n", encoding="utf-8")
    if torch_of(venv_python()) is not None:
        say(f"using torch {torch.version} of {torch.folders[0]}")
        return True
    link.unlink()
    return False


def pip_install(*arguments: str | Path) -> bool:
    """Install into the `.venv`."""
    return succeeds(venv_python(), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments)


def install_torch(override: str) -> list[str]:
    """Install or borrow torch; return the folders borrowed from outside the `.venv`."""
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    outer = None if override or inside or not importlib.util.find_spec("torch") else torch_of(sys.executable)
    if borrow_torch(outer) and outer:
        return outer.folders
    pin = pinned_torch((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    for attempt in torch_attempts(pin, platform.system(), "GPU" in output_of("nvidia-smi", "-L"), override):
        say(f"installing {attempt.announcement}")
        if pip_install(*attempt.pip_arguments):
            return []
    raise SetupError("torch could not be installed: see above. AGSCL_TORCH may name another requirement or a wheel.")


def install_requirements(profile: str) -> None:
    """Install the pinned packages around the torch in place."""
    torch = torch_of(venv_python())
    if torch is None:
        raise SetupError(f"torch is installed and does not import: `{venv_python()} -c 'import torch'` says why.")
    say(f"installing {' and '.join(REQUIREMENTS[profile])} (about 0.35 GB, 1 to 3 minutes)")
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in REQUIREMENTS[profile])
    with tempfile.TemporaryDirectory() as folder:
        around_torch = Path(folder) / "requirements.txt"
        around_torch.write_text(with_torch(text, torch), encoding="utf-8")
        if not pip_install("-r", around_torch):
            raise SetupError("the packages could not be installed: see above. Run the same command to try again.")


def set_up(profile: str) -> None:
    """Bring `.venv` to what a profile needs; do nothing when its stamp says that it is there."""
    override = os.environ.get("AGSCL_TORCH", "")
    if override.endswith(".whl"):
        override = str(Path(override).resolve())  # pip runs in the project's folder, the user perhaps elsewhere
    stamp, wanted = VENV / "agscl-stamp.json", wanted_stamp(profile, override)
    found = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else {}
    if venv_python().exists() and is_ready(found, wanted):
        return
    make_venv()
    stamp.unlink(missing_ok=True)
    borrowed = install_torch(override)
    install_requirements(profile)
    unfinished = stamp.with_suffix(".tmp")
    unfinished.write_text(json.dumps({**wanted, "borrowed": borrowed}), encoding="utf-8")
    os.replace(unfinished, stamp)
    say(f"ready: {venv_python()}")


def parse_arguments(arguments: list[str]) -> tuple[str, list[str]]:
    """Split the command line into the profile and what is passed on to its program."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Set up .venv in the project's folder (the first time: 2 to 5 minutes, 3 GB on disk), then run:\n"
        "  demo [ARGS]       the demonstration; ARGS go to development/demo.py\n"
        "  test [-- ARGS]    every check and test; with ARGS only pytest, with these\n"
        "  env               nothing more: for development",
        epilog="AGSCL_TORCH=<pip requirement or path of a wheel> chooses the torch to install.",
    )
    parser.add_argument("profile", choices=REQUIREMENTS)
    parser.add_argument("passed_on", nargs=argparse.REMAINDER, metavar="ARGS")
    known = parser.parse_args(arguments)
    passed_on = known.passed_on[1:] if known.passed_on[:1] == ["--"] else known.passed_on
    if known.profile == "env" and passed_on:
        parser.error(f"env takes no further arguments, and got: {' '.join(passed_on)}")
    return known.profile, passed_on


def main(arguments: list[str]) -> int:
    """Set up and run; return the exit code."""
    profile, passed_on = parse_arguments(arguments)
    try:
        if trouble := unsupported_python(sys.version_info[:2], lambda command: output_of(command, "-c", "print(1)")):
            raise SetupError(trouble)
        set_up(profile)
    except SetupError as error:
        print(f"[bootstrap] stopped: {error}", file=sys.stderr)
        return 1
    if profile not in PROGRAM:
        return 0
    # OpenMP threads that wait by spinning take the CPU from those at work where CPUs are shared (CI, containers).
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    command = [str(venv_python()), "-m", PROGRAM[profile], *passed_on]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
