"""`python -m monai.bundle run` as users call it: from the bundle's folder and from any other, by clone and release."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from config_compositions import INFERENCE, ROOT
from tiny_bundle import TINY, TinyBundle, make_bundle
from tiny_workflows import EVALUATE, TINY_TRAINING, TRAIN

from development.release.archive import write_archive
from development.release.bundle_files import bundle_files

pytestmark = pytest.mark.slow


def files_of_the_bundle() -> list[str]:
    """What git knows, as it lies in the folder now."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8")
    if listed.returncode:
        pytest.skip("this copy of the bundle is no git repository")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundle as a clone leaves it, and as an unpacked zip with one top folder."""
    folder = tmp_path_factory.mktemp("copies")
    for name in files_of_the_bundle():
        (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "clone" / name)
    write_archive(folder / "agscl.zip", "agscl", {name: ROOT / name for name in bundle_files(ROOT)})
    with zipfile.ZipFile(folder / "agscl.zip") as archive:
        archive.extractall(folder / "unpacked")
    return {"clone": folder / "clone", "zip": folder / "unpacked/agscl"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def run(bundle_root: Path, cwd: Path, run_id: str, *overlays: str, **options: Any) -> str:
    """The command, in a process that knows of the bundle what the command line says; its output."""
    inside = cwd == bundle_root
    files = [name if inside else str(bundle_root / name) for name in overlays or (INFERENCE,)]
    arguments = cwd.parent / f"{run_id}.json"
    arguments.write_text(json.dumps({**options, "device": "cpu"}), encoding="utf-8")
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    command += ["--args_file", str(arguments)] + ([] if inside else ["--bundle_root", str(bundle_root)])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("how", "where"), [("clone", "root"), ("zip", "elsewhere")])
def test_inference_finds_code_configs_and_default_folders(
    how: str, where: str, copies: dict[str, Path], bundle: TinyBundle, tiny_data: Path, tmp_path: Path
) -> None:
    root = copies[how]
    cwd = root if where == "root" else tmp_path / "elsewhere"
    cwd.mkdir(exist_ok=True)
    (root / "models").mkdir(exist_ok=True)
    shutil.copy(bundle.model, root / "models/model.pt")
    scan = sorted((tiny_data / "images").iterdir())[0]
    run(root, cwd, "inference", dataset_dir=str(scan), **TINY | {"device": "cpu"})
    labels = nib.load(root / "runs/inference" / scan.name.replace(".nii.gz", "_seg.nii.gz"))
    assert labels.shape == nib.load(scan).shape and len(np.unique(labels.dataobj)) > 3
    assert cwd == root or list(cwd.iterdir()) == [], "nothing is left in the folder where the command was given"
    shutil.rmtree(root / "runs")


def test_training_and_evaluation_from_another_folder(copies: dict[str, Path], tiny_data: Path, tmp_path: Path) -> None:
    root, cwd = copies["zip"], tmp_path / "elsewhere"
    cwd.mkdir()
    settings = {**TINY_TRAINING, "device": "cpu", "dataset_dir": str(tiny_data)}
    run(root, cwd, "training", TRAIN, **settings)
    printed = run(root, cwd, "evaluate", EVALUATE, dataset_dir=str(tiny_data), run_dir=str(root / "runs/train"))
    assert "macro mean" in printed
    assert (root / "runs/evaluation/scores.csv").is_file()
    assert list(cwd.iterdir()) == []
