"""A zip from somewhere: looked into before it is used, and nothing in it runs."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import torch

from development.release.__main__ import main
from development.release.archive import write_archive
from development.release.inspection import inspect_release
from scripts.files.result_files import digest

METADATA = b'{"name": "agscl", "version": "0.1.0"}'


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def zip_of(folder: Path, **members: bytes) -> Path:
    content: dict[str, Path | bytes] = {"configs/metadata.json": METADATA}
    write_archive(
        folder / "agscl.zip", "agscl", content | {name.replace("__", "."): it for name, it in members.items()}
    )
    return folder / "agscl.zip"


def test_a_sound_zip_passes_with_its_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zip_of(tmp_path, LICENSE=b"licence")
    assert main(["inspect", str(path), "--sha256", digest(path).upper()]) == 0
    assert capsys.readouterr().out.startswith("2 files, no member climbs out")


def test_another_checksum_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zip_of(tmp_path)
    assert main(["inspect", str(path), "--sha256", "0" * 64]) == 1
    assert "download it again, do not use it" in capsys.readouterr().err


def test_a_pickle_and_weights_with_code_are_refused_and_not_run(tmp_path: Path) -> None:
    code = Touch(tmp_path / "ran")
    with pytest.raises(ValueError, match="agscl/notes.txt is a pickle"):
        inspect_release(zip_of(tmp_path, notes__txt=pickle.dumps(code)))
    weights = io.BytesIO()
    torch.save({"weight": code}, weights)
    with pytest.raises(ValueError, match="holds more than weights"):
        inspect_release(zip_of(tmp_path, model__pt=weights.getvalue()))
    assert not (tmp_path / "ran").exists()


def test_metadata_that_would_be_evaluated_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", {"configs/metadata.json": b'{"version": "$exit()"}'})
    with pytest.raises(ValueError, match="version begins with .* which MONAI evaluates"):
        inspect_release(tmp_path / "a.zip")


def test_a_zip_that_is_no_bundle_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", {"README.md": b"text"})
    with pytest.raises(ValueError, match="holds no agscl/configs/metadata.json: it is not a bundle"):
        inspect_release(tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError, match="no file"):
        inspect_release(tmp_path / "none.zip")
