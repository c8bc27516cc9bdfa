"""Processes that share scans: real ones, some of which are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from scripts.inference import shared_scans
from scripts.inference.shared_scans import LOST, SharedScans

SCANS = [f"scan {n}" for n in range(20)]
BAD, DEADLY = "scan 3", "scan 5"


def work(folder: Path, die: bool, all_joined: Barrier | None = None) -> None:
    """What an evaluator does: every scan that it gets is written down, and the last process reports."""
    shared = SharedScans(folder)
    with shared.joined():
        shared.open_to_others((folder / "segmented").read_text().splitlines())
        if all_joined:  # one that comes after the others have left would be a run of its own
            all_joined.wait()
        for scan in SCANS:
            if shared.claim(scan):
                time.sleep(0.01)
                if scan == DEADLY and die:
                    os.kill(os.getpid(), signal.SIGKILL)
                if scan == BAD:
                    shared.settle(scan, "not a scan")
                    continue
                with (folder / "segmented").open("a") as file:
                    file.write(scan + "\n")
                shared.settle(scan)
        while die and not (folder / "dead").exists():  # the last of all could not report if it were the killed one
            time.sleep(0.01)
        if shared.leave():
            (folder / "report").write_text("\n".join(f"{scan}: {why}" for scan, why in shared.failures().items()))


def processes(folder: Path, count: int, die: bool = False) -> list[BaseProcess]:
    (folder / "segmented").touch()
    os.environ["WORLD_SIZE"] = str(count)
    context = multiprocessing.get_context("fork")
    all_joined = context.Barrier(count)
    started: list[BaseProcess] = [context.Process(target=work, args=(folder, die, all_joined)) for _ in range(count)]
    for process in started:
        process.start()
    del os.environ["WORLD_SIZE"]
    while die and all(process.exitcode is None for process in started):
        time.sleep(0.01)
    if die:
        (folder / "dead").touch()
    for process in started:
        process.join()
    return started


def test_each_scan_is_segmented_once_and_one_process_reports_for_all(tmp_path: Path) -> None:
    (tmp_path / "segmented").write_text("scan 0\n")
    processes(tmp_path, 4)
    assert sorted((tmp_path / "segmented").read_text().splitlines()) == sorted({*SCANS} - {BAD})
    assert (tmp_path / "report").read_text() == f"{BAD}: not a scan"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "segmented"], "nothing else is left"


def test_a_process_that_is_killed_loses_its_scan_only_and_the_last_one_says_which(tmp_path: Path) -> None:
    codes = sorted(process.exitcode or 0 for process in processes(tmp_path, 3, die=True))
    assert codes == [-signal.SIGKILL, 0, 0]
    assert sorted((tmp_path / "segmented").read_text().splitlines()) == sorted({*SCANS} - {BAD, DEADLY})
    assert (tmp_path / "report").read_text() == f"{BAD}: not a scan\n{DEADLY}: {LOST}"


def test_what_killed_processes_left_is_cleared_away_by_the_first_one_of_the_next_run(tmp_path: Path) -> None:
    processes(tmp_path, 1, die=True)
    assert not (tmp_path / "report").exists() and (tmp_path / ".running").is_dir()
    processes(tmp_path, 2)
    assert (tmp_path / "report").read_text() == f"{BAD}: not a scan"
    assert not (tmp_path / ".running").exists()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: str) -> bool:
        raise OSError("operation not supported")

    monkeypatch.setattr(shared_scans, "_locked", refuse)


def test_where_files_cannot_be_locked_one_process_works_alone(
    without_locks: Callable[[], None], tmp_path: Path
) -> None:
    (tmp_path / "segmented").touch()
    work(tmp_path, die=False)
    assert (tmp_path / "report").read_text() == f"{BAD}: not a scan"
    assert not (tmp_path / ".running").exists()


def test_a_folder_that_cannot_be_made_is_left_to_whoever_writes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("as below an unmapped drive")

    monkeypatch.setattr(Path, "mkdir", lost)
    monkeypatch.setattr(shared_scans, "POLL_S", 0.0)
    with SharedScans(tmp_path).joined():
        pass


def test_where_files_cannot_be_locked_several_processes_are_refused(
    without_locks: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="start one process"):
        work(tmp_path, die=False)


def work_alone(folder: Path, name: str) -> None:
    """A command of one process with a scan called ct, which it does not get done."""
    shared = SharedScans(folder)
    with shared.joined():
        shared.open_to_others([])
        assert shared.claim("ct"), "the scan of another command has the name"
        (folder / f"{name} begins").touch()
        while not (folder / "both began").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        shared.settle("ct", f"{name} failed")
        if shared.leave():
            (folder / name).write_text(str(shared.failures()))


def test_a_command_with_another_scan_of_the_same_name_waits_and_both_report_their_own(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    first, second = (fork.Process(target=work_alone, args=(tmp_path, work)) for work in ("anna", "ben"))
    first.start()
    while not (tmp_path / "anna begins").exists():
        time.sleep(0.01)
    second.start()
    (tmp_path / "both began").touch()
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "anna").read_text() == "{'ct': 'anna failed'}"
    assert (tmp_path / "ben").read_text() == "{'ct': 'ben failed'}"


def test_the_reason_of_a_failure_may_name_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    shared, name = SharedScans(tmp_path / "out"), os.fsdecode(b"\xff.nii.gz")
    with shared.joined():
        shared.claim("scan")
        shared.settle("scan", f"{name}: file cannot be read")
        assert shared.failures() == {"scan": "\\udcff.nii.gz: file cannot be read"}
