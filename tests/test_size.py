"""The project stays as small as it is."""

from __future__ import annotations

import subprocess

import pytest
from config_compositions import ROOT

from development.size import TARGETS, main, sizes

if subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode:
    pytest.skip("this copy is no git checkout", allow_module_level=True)


@pytest.mark.parametrize("name", TARGETS)
def test_no_size_grows_beyond_its_target(name: str) -> None:
    assert sizes()[name] <= TARGETS[name]


def test_the_command_prints_every_size_beside_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:]] == list(TARGETS)
    assert {row[0]: row[1] for row in rows[2:]} == {name: str(number) for name, number in sizes().items()}
