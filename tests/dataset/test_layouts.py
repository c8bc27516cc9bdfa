"""A newcomer's layout of a data set: one new file in scripts/dataset/layouts, and no file edited."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from config_compositions import ROOT

from scripts.dataset.layouts import layout_of

LAYOUT = """
import os


def is_layout(folder):
    return os.path.isfile(os.path.join(folder, "cases.csv"))


def datalist(folder):
    with open(os.path.join(folder, "cases.csv"), encoding="utf-8") as stream:
        rows = [line.strip().split(",") for line in stream if line.strip()]
    return {
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": image, "label": label} for image, label in rows],
    }
"""
READ = """
import json, sys
from scripts.dataset.datalists import load_cases
from scripts.dataset.inference_inputs import scan_inputs
cases = load_cases(sys.argv[1], "training", ["liver"])
print(json.dumps([[case["image"], case["label"]] for case in cases]))
print(json.dumps([case["image"] for case in scan_inputs(sys.argv[1])]))
"""


def test_a_new_layout_is_one_new_file(phantom_dir: Path, tmp_path: Path) -> None:
    copy, data = tmp_path / "bundle", tmp_path / "data"
    shutil.copytree(ROOT / "scripts", copy / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", copy / "configs")
    (copy / "scripts/dataset/layouts/table.py").write_text(LAYOUT, encoding="utf-8")
    data.mkdir()
    scan = next((phantom_dir / "images").iterdir()).name
    for folder in ("images", "labels"):
        shutil.copytree(phantom_dir / folder, data / folder)
    (data / "cases.csv").write_text(f"images/{scan},labels/{scan}\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", READ, str(data)], cwd=copy, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    training, inference = map(json.loads, done.stdout.splitlines()[-2:])
    assert training == [[os.path.join(data, "images", scan), os.path.join(data, "labels", scan)]]
    assert inference == [os.path.join(data, "images", scan)]


def test_a_folder_of_no_layout_has_none(tmp_path: Path) -> None:
    assert layout_of(str(tmp_path)) is None
    assert layout_of(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize("part", ["JPEGImages", "SegmentationClass"])
def test_voc_is_known_by_any_of_its_folders(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir()
    layout = layout_of(str(tmp_path))
    assert layout is not None and layout.__name__.endswith("voc")
