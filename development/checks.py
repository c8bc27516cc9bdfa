"""Run every check of the code, then every test, and say in one table what passed.

    python -m development.checks              # all: what continuous integration runs
    python -m development.checks -k fusion    # with arguments: only pytest, with these

A check that fails does not stop the next: one run shows everything there is to fix. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COVERED_PERCENT = 90  # of the statements; our choice

CHECKS: dict[str, list[str]] = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy", "--strict", "scripts", "development"],
    "codespell": ["codespell_lib", "."],
    "pytest": [
        "pytest",
        "-n2",  # our choice: CI has two cores
        "--dist=loadfile",
        "--no-loadscope-reorder",  # would leave the long files, of few tests each, for the end
        "--cov=scripts",
        "--cov=development",
        "--cov-report=term-missing:skip-covered",
        f"--cov-fail-under={COVERED_PERCENT}",
    ],
}


def chosen_checks(pytest_arguments: list[str]) -> dict[str, list[str]]:
    """Return every check; or, with arguments, only pytest: a part of the tests cannot reach the coverage asked for."""
    return {"pytest": ["pytest", *pytest_arguments]} if pytest_arguments else CHECKS


def run_check(name: str, module_and_arguments: list[str]) -> tuple[bool, float]:
    """Run one check with this interpreter; return whether it passed, and its seconds."""
    print(f"\n== {name}: python -m {' '.join(module_and_arguments)}", flush=True)
    start = time.monotonic()
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # two processes with two threads each would wait for cores
    finished = subprocess.run([sys.executable, "-m", *module_and_arguments], cwd=ROOT, env=environment)
    return finished.returncode == 0, time.monotonic() - start


def main(pytest_arguments: list[str]) -> int:
    """Run the checks and print the table; return 1 if any failed."""
    results = {name: run_check(name, command) for name, command in chosen_checks(pytest_arguments).items()}
    print("\n== summary")
    for name, (passed, seconds) in results.items():
        print(f"{'ok    ' if passed else 'FAILED'}  {name:<12} {seconds:6.1f} s")
    return 0 if all(passed for passed, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
