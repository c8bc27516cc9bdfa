"""The evaluation as a whole leaves scans, labels, weights and the scores of other evaluations as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kept_files import unchanged
from tiny_bundle import TINY, make_bundle
from tiny_workflows import ABDOMEN, EVALUATE, run

from scripts.runtime.plain_errors import complaint


@pytest.fixture
def settings(tiny_data: Path, tmp_path: Path) -> dict[str, Any]:
    """An evaluation of one scan with labels, all in a folder that the test may look at."""
    bundle = make_bundle(tmp_path / "bundle", organs=ABDOMEN["organs"])
    shutil.copytree(tiny_data, tmp_path / "data")
    return {
        **TINY,
        "organs": ABDOMEN["organs"],
        "dataset_dir": str(tmp_path / "data"),
        "model_path": str(bundle.model),
        "output_dir": str(tmp_path / "data/images"),
    }


def test_an_evaluation_is_repeated_but_replaces_no_input_and_no_other_scores(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with unchanged(tmp_path):
        run("evaluate", EVALUATE, **settings)
    out = Path(settings["output_dir"])
    listed = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["tables"]
    assert sorted(listed) == ["dice.png", "scores.csv", "summary.csv", "summary.json"]
    scores = (out / "scores.csv").read_bytes()
    run("evaluate", EVALUATE, **settings)
    assert (out / "scores.csv").read_bytes() == scores
    with unchanged(tmp_path), pytest.raises(Exception) as refusal:
        run("evaluate", EVALUATE, **settings, surface_tolerance=1.0)
    assert "scores.csv: made with other settings" in complaint(refusal.value)
    with unchanged(tmp_path), pytest.raises(Exception) as refusal:
        run("evaluate", EVALUATE, **settings, split="training")
    assert "scores.csv: made with other cases" in complaint(refusal.value)
