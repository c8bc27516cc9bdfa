"""Pickles, by whatever name, are not part of a release; weights are, if they hold nothing but weights."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from development.release.pickles import refuse_unexpected_pickles


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_known_by_its_first_bytes_whatever_it_is_called(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(pickle.dumps({"a": 1}, protocol))
    with pytest.raises(ValueError, match="docs/notes.txt is a pickle"):
        refuse_unexpected_pickles({"docs/notes.txt": path})


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "A.PICKLE", "model.ts", "model.ckpt", "map.npy"])
def test_a_format_that_can_hold_a_pickle_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=f"{name} is a pickle or may hold one"):
        refuse_unexpected_pickles({name: tmp_path / "array.npy"})


def test_a_zip_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "table.csv")
    with zipfile.ZipFile(tmp_path / "harmless.docx", "w") as archive:
        archive.writestr("text.xml", "<p/>")
    refuse_unexpected_pickles({"harmless.docx": tmp_path / "harmless.docx"})
    with pytest.raises(ValueError, match="table.csv is a pickle"):
        refuse_unexpected_pickles({"table.csv": tmp_path / "table.csv"})


def test_weights_pass_and_weights_with_code_are_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "good.pt")
    torch.save({"weight": Touch(tmp_path / "ran")}, tmp_path / "bad.pt")
    refuse_unexpected_pickles({"models/model.pt": tmp_path / "good.pt"})
    with pytest.raises(ValueError, match="holds more than weights"):
        refuse_unexpected_pickles({"models/model.pt": tmp_path / "bad.pt"})
    assert not (tmp_path / "ran").exists()
