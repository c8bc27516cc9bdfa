"""What a run cost, read from the checkpoints that its stages left."""

from __future__ import annotations

from pathlib import Path

import pytest

from development.study.costs import main, stage_costs
from scripts.runtime.resume import save_atomically


def test_costs_are_read_from_checkpoints_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_atomically({"epoch": 12, "seconds": 90.0, "peak_mib": 2048.0}, tmp_path / "coarse.pt")
    save_atomically({"organ_names": 0}, tmp_path / "model.pt")
    costs = {"epochs": 12, "core_seconds": 90.0, "wall_seconds": 90.0, "peak_memory_mib": 2048}
    assert stage_costs(str(tmp_path)) == {"coarse": costs}
    main([str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1].split() == "| coarse | 12 | 1.5 | 2.0 |".split()


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of a stage"):
        stage_costs(str(tmp_path))
