"""The bundle as it is shipped: the unpacked zip, without a network, has weights that fit and segments a scan."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from config_compositions import INFERENCE, ROOT, load
from monai.bundle import ckpt_export
from monai.bundle import load as load_bundle
from monai.data import load_net_with_metadata

from development.release.archive import write_archive
from development.release.build import Plan
from development.release.bundle_files import WEIGHTS, tracked_files
from development.release.metadata import read_metadata
from development.release.zoo_checks import CHECKS
from scripts.inference.predictor import decode_names

ORGANS = load(INFERENCE)["organs"]
LARGEST_MB = 95
MOST_FILES, MOST_BYTES = 160, 2_000_000
"""Of the zip; the bytes are those beside the weights."""
OFFLINE = """
import socket

def refuse(*arguments):
    raise OSError("there is no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip of a release, unpacked in an empty folder."""
    folder = tmp_path_factory.mktemp("release")
    write_archive(folder / "agscl.zip", "agscl", Plan(ROOT, read_metadata(ROOT), None, []).members())
    shutil.unpack_archive(folder / "agscl.zip", folder)
    return folder / "agscl"


def offline(root: Path, *arguments: str) -> str:
    """Run Python in the clone without a network; return what was printed."""
    blocked = root.parent / "offline"
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(OFFLINE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(blocked), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_zip_has_few_files_and_is_small_beside_the_weights(clone: Path) -> None:
    sizes = {path.relative_to(clone).parts[0]: 0 for path in clone.iterdir()}
    files = [path for path in clone.rglob("*") if path.is_file()]
    for path in files:
        sizes[path.relative_to(clone).parts[0]] += path.stat().st_size
    assert len(files) <= MOST_FILES
    assert sum(size for name, size in sizes.items() if name != "models") < MOST_BYTES, sizes
    assert not {"tests", "development"} & set(sizes)


@pytest.mark.parametrize("title", CHECKS)
def test_this_repository_passes_every_check_of_the_zoo(title: str) -> None:
    assert CHECKS[title](ROOT)


def test_the_weights_are_part_of_the_repository_and_of_half_size() -> None:
    assert WEIGHTS in tracked_files(ROOT)
    assert (ROOT / WEIGHTS).stat().st_size < LARGEST_MB * 1e6
    state = torch.load(ROOT / WEIGHTS, weights_only=True)
    assert decode_names(state["organ_names"]) == ORGANS
    assert {value.dtype for value in state.values() if value.dim() > 1} == {torch.float16}


@pytest.mark.slow
def test_a_clone_without_a_network_segments_a_scan_by_one_command(
    clone: Path, phantom_dir: Path, tmp_path: Path
) -> None:
    scan = sorted((phantom_dir / "images").iterdir())[0]
    said = offline(clone, "-m", "scripts.segment", str(scan), "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    assert "1 scan segmented" in said
    asked: Any = nib.load(scan)
    found: Any = nib.load(tmp_path / "out" / scan.name.replace(".nii.gz", "_seg.nii.gz"))
    assert found.shape == asked.shape
    np.testing.assert_allclose(found.affine, asked.affine, atol=1e-4)
    assert set(np.unique(found.dataobj).tolist()) <= set(range(len(ORGANS) + 1))
    table = pd.read_csv(tmp_path / "out" / f"{scan.name.removesuffix('.nii.gz')}_organs.csv")
    assert table["organ"].str.replace(" ", "_").tolist() == ORGANS


BUILDS = {
    "cpu": ["--index-url https://download.pytorch.org/whl/cpu torch==", "--requirement requirements.txt"],
    "cuda": ["--requirement requirements.txt"],
}


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile, and what they say."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def built(steps: list[tuple[str, str]], image: Path, build: str) -> tuple[int, list[str], dict[str, str]]:
    """Follow the steps in an empty folder; return the status of the last, what pip was given, and the environment."""
    (image / "bin").mkdir(parents=True)
    pip = image / "bin/pip"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(image))}/pip.txt\n', encoding="utf-8")  # installs nothing
    pip.chmod(0o755)
    known = {"PATH": f"{image}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}", "BUILD": build}
    folder, status = image, 0
    for instruction, said in steps:
        if instruction == "WORKDIR":
            folder = image / said.lstrip("/")
            folder.mkdir(exist_ok=True)
        elif instruction == "ENV":
            known |= dict(word.split("=", 1) for word in shlex.split(said.replace("=/", f"={image}/")))
        elif instruction == "COPY":
            source, target = said.split()
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, folder / target)
        elif instruction == "RUN" and status == 0:
            status = subprocess.run(["sh", "-c", said], cwd=folder, env=known, capture_output=True).returncode
    installed = image / "pip.txt"
    return status, installed.read_text(encoding="utf-8").splitlines() if installed.is_file() else [], known


def test_the_dockerfile_has_steps_that_docker_knows_and_copies_what_git_tracks(steps: list[tuple[str, str]]) -> None:
    assert [name for name, _ in steps][:2] == ["FROM", "ARG"] and [name for name, _ in steps][-1] == "ENTRYPOINT"
    assert {name for name, _ in steps} == {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"}
    tracked = tracked_files(ROOT)
    for source in (said.split()[0] for name, said in steps if name == "COPY"):
        assert any(name == source or name.startswith(f"{source}/") for name in tracked), source


@pytest.mark.parametrize("build", BUILDS)
def test_the_image_gets_the_pinned_packages(build: str, steps: list[tuple[str, str]], tmp_path: Path) -> None:
    status, installed, _ = built([step for step in steps if step[1].split()[0] != "models"], tmp_path, build)
    assert status == 0 and len(installed) == len(BUILDS[build])
    assert all(line.startswith("install --no-cache-dir") for line in installed)
    assert all(wanted in line for wanted, line in zip(BUILDS[build], installed, strict=True))
    assert built(steps, tmp_path / "other", "gpu")[:2] == (1, [])


def test_the_entrypoint_segments_a_scan_with_what_was_copied(
    steps: list[tuple[str, str]], phantom_dir: Path, tmp_path: Path
) -> None:
    _, _, known = built(steps, tmp_path, "cuda")
    shutil.copy(sorted((phantom_dir / "images").iterdir())[0], tmp_path / "data/scan.nii.gz")
    entrypoint = [*json.loads(dict(steps)["ENTRYPOINT"]), "scan.nii.gz", "--output_dir", "out", "--write"]
    done = subprocess.run(entrypoint, cwd=tmp_path / "data", env=known, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "data/out").iterdir()) == ["manifest.json", "scan_seg.nii.gz"]


def test_a_clone_without_a_network_is_loaded_by_monai_with_its_weights(clone: Path) -> None:
    code = (
        "import sys, torch; from monai.bundle import load; sys.path.insert(0, '.')\n"
        "network = load('agscl', bundle_dir='..', workflow_type='inference', device='cpu')\n"
        f"kept = torch.load('{WEIGHTS}', weights_only=True)\n"
        "state = network.state_dict()\n"
        "assert state.keys() == kept.keys(), set(state) ^ set(kept)\n"
        "print(sum(torch.equal(state[key], kept[key].to(state[key].dtype)) for key in kept) == len(kept))"
    )
    assert offline(clone, "-c", code).splitlines()[-1] == "True"


@pytest.mark.slow
def test_the_torchscript_of_the_weights_holds_the_config_that_fits_them(clone: Path) -> None:
    ckpt_export(config_file=str(clone / "configs/inference.json"), bundle_root=str(clone))
    path = clone / "models/model.ts"
    scripted, metadata, extra = load_net_with_metadata(str(path), more_extra_files=["inference.json"])
    assert json.loads(extra["inference.json"])["organs"] == ORGANS
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(channels.values()) == ["background", *ORGANS]
    network: Any = load_bundle("agscl", bundle_dir=str(clone.parent), workflow_type="inference", device="cpu")
    volume = torch.randn(1, 1, 32, 30, 12, generator=torch.Generator().manual_seed(0)) * 200
    with torch.no_grad():
        torch.testing.assert_close(scripted.cpu().eval()(volume), network.eval()(volume), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("AGSCL_SHARED_DATA"), reason="AGSCL_SHARED_DATA names no folder with openkbp")
def test_a_patient_of_openkbp_is_segmented(clone: Path, tmp_path: Path) -> None:
    folder = Path(os.environ["AGSCL_SHARED_DATA"]) / "openkbp"
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    patient = next(entry for entry in content["validation"] if "openkbp_208" in entry["image"])
    patient |= {key: str(folder / patient[key]) for key in ("image", "label")}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "validation": [patient]}), encoding="utf-8")
    paths = ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "scores")]
    offline(clone, "-m", "monai.bundle", "run", "evaluate", "--config_file", "configs/evaluate.yaml", *paths)
    scores = pd.read_csv(tmp_path / "scores/scores.csv")
    assert set(scores["organ"]) == set(patient["annotated"])
    assert scores["dice"].mean() > 0.7
