"""On the command line a complaint of ours is one sentence; a fault keeps its traceback."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from config_compositions import ROOT
from monai.data import DataLoader, Dataset
from monai.transforms import LoadImage, LoadImaged

from scripts.inference.weights import load_weights
from scripts.preprocessing.scan_reader import ScanReader
from scripts.preprocessing.working_grid import check_spacing
from scripts.runtime.plain_errors import (
    OURS,
    install_plain_errors,
    is_complaint,
    report,
    root_cause,
    start_command,
)


def complaint() -> BaseException:
    """A complaint as MONAI wraps it."""
    try:
        try:
            check_spacing([1.0, 0.0, 1.0])
        except ValueError as error:
            raise RuntimeError("Failed to instantiate component") from error
    except RuntimeError as error:
        return error
    raise AssertionError("the spacing was accepted")


def test_the_first_error_of_a_chain_is_found() -> None:
    assert "is not a voxel size" in str(root_cause(complaint()))


def test_a_complaint_is_printed_as_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    error = complaint()
    report(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert printed.startswith("error: spacing [1.0, 0.0, 1.0] is not a voxel size")
    assert "Traceback" not in printed


def test_an_interruption_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    report(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "error: interrupted.\n"


def test_a_command_that_is_ended_by_its_scheduler_clears_up() -> None:
    code = (
        "import atexit, os, signal, time; from scripts.runtime.plain_errors import start_command; start_command();"
        "atexit.register(print, 'cleared'); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "cleared\n")


def test_a_missing_file_is_a_complaint_too() -> None:
    import torch

    with pytest.raises(FileNotFoundError) as caught:
        load_weights(torch.nn.Identity(), "nowhere.pt")
    assert is_complaint(caught.value)


def test_a_fault_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        int("not a number")
    except ValueError as error:
        assert not is_complaint(error)
        report(type(error), error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_installing_sets_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_plain_errors()
    assert sys.excepthook is report


def test_no_image_is_loaded_with_an_alarm_about_a_decoder_that_nobody_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    install_plain_errors()
    LoadImage()
    assert [str(warning.message) for warning in recwarn if "nvImageCodec" in str(warning.message)] == []
    assert "nvImageCodec" not in caplog.text


def chained_raises() -> list[tuple[str, str]]:
    """File and class of every `raise ... from` of the bundle that a user can meet as a ValueError or a missing file."""
    found = []
    for path in sorted(path for folder in OURS for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.cause is not None and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                if name in ("ValueError", "FileNotFoundError"):
                    found.append((str(path), name))
    return found


@pytest.mark.parametrize(("path", "name"), chained_raises())
def test_every_chained_complaint_is_one_sentence(path: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"try:\n  {{}}['x']\nexcept KeyError as error:\n  raise {name}('what to do') from error"
    try:
        try:
            exec(compile(source, path, "exec"))
        except (ValueError, FileNotFoundError) as error:
            raise RuntimeError("applying transform") from error
    except RuntimeError as error:
        report(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "error: what to do\n"


@pytest.mark.parametrize(("name", "said"), [("cut.nii.gz", "file cannot be read"), ("gone.nii.gz", "does not exist")])
def test_a_complaint_of_a_worker_process_is_one_sentence(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if name == "cut.nii.gz":
        path.write_bytes(b"\x1f\x8b cut")
    cases = Dataset([{"image": str(path)}], LoadImaged("image", reader=ScanReader, image_only=True))
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(cases, num_workers=1))
    assert "worker process 0" in str(caught.value) and caught.value.__cause__ is None
    report(caught.type, caught.value, caught.tb)
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {path}: ") and said in printed and printed.count("\n") == 1


def test_a_fault_in_a_worker_process_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Dataset(["three"], int), num_workers=1))
    report(caught.type, caught.value, caught.tb)
    assert "Traceback" in capsys.readouterr().err


def test_errors_are_plain_and_what_repeats_itself_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    repetitive = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    monkeypatch.setattr(repetitive, "level", logging.NOTSET)
    monkeypatch.setattr(sys, "argv", ["x", "~/a", "--output_dir=~/b", "--values", "1=~/c", "~d"])
    start_command()
    assert sys.argv[1:] == [str(Path.home() / "a"), f"--output_dir={Path.home() / 'b'}", "--values", "1=~/c", "~d"]
    assert sys.excepthook is report
    assert not repetitive.isEnabledFor(logging.WARNING)
