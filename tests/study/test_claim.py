"""Claims: one process at a time, held by the children too, and gone with the last of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from development.study.claim import claimed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the study needs POSIX file locks")


def test_a_claimed_folder_is_refused_until_it_is_given_back(tmp_path: Path) -> None:
    with claimed(tmp_path / "run") as first, claimed(tmp_path / "run") as second:
        assert first is not None and second is None
    with claimed(tmp_path / "run") as again:
        assert again is not None


def test_a_claim_left_by_a_dead_process_is_taken_over_but_not_while_its_child_works(tmp_path: Path) -> None:
    with claimed(tmp_path) as descriptor:
        assert descriptor is not None
        command = [sys.executable, "-c", "input()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[descriptor])
    with claimed(tmp_path) as meanwhile:
        assert meanwhile is None, "the child outlived its study"
    child.kill()
    child.wait()
    with claimed(tmp_path) as afterwards:
        assert afterwards is not None
