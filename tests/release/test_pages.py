"""The pages on releases, followed to the letter: check, build, confirm, then download, load and segment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import pytest
from config_compositions import ROOT
from doc_pages import blocks, shell_lines
from local_server import HubHandler, hub_environment, serving
from tiny_checkout import read_json

from development.release.__main__ import build_parser
from development.release.metadata import bundle_name, read_metadata, versioned_name
from development.release.zoo_checks import CHECKS

API, ZOO = ROOT / "docs/how_to/bundle_api.md", ROOT / "docs/how_to/model_zoo.md"


def follow(commands: Iterator[str] | list[str], folder: Path, **variables: str) -> None:
    """Run blocks of commands one after another in a shell."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env={**known, "PATH": path, "OMP_NUM_THREADS": "1", **variables},
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_commands_of_a_release_are_ones_that_there_are() -> None:
    lines = [words for page in (API, ZOO) for words in shell_lines(page) if words[1:3] == ["-m", "development.release"]]
    assert sorted(build_parser().parse_args(words[3:]).command for words in lines) == ["build", "check", "confirm"]


def test_the_page_names_this_bundle_and_every_check() -> None:
    name = bundle_name(read_metadata(ROOT))
    assert f"--name {name} " in API.read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in ZOO.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    assert [row for row in rows if row in CHECKS] == list(CHECKS)


@pytest.mark.slow
def test_both_pages_lead_from_weights_to_a_label_map(bundle: Path, phantom_dir: Path, tmp_path: Path) -> None:
    metadata = read_json(bundle / "configs/metadata.json")
    release, name = versioned_name(metadata), bundle_name(metadata)
    scan = next((phantom_dir / "images").glob("*.nii.gz"))
    user, results = tmp_path / "user", tmp_path / "results"
    user.mkdir()
    (bundle / "dist").mkdir()
    with serving(bundle / "dist") as server:
        address = f"{server}/{release}/upload"
        follow(blocks(ZOO, "bash"), bundle, ADDRESS=address)
        from_zip, from_hub, segment = blocks(API, "bash")
        follow([from_zip], user, ADDRESS=address, VERSION=metadata["version"])
    with serving(bundle / "dist" / release / "hub" / name, HubHandler) as hub:
        follow([from_hub], user, **hub_environment(hub), HF_HOME=str(tmp_path / "cache"))
    (python,) = blocks(API, "python")
    (user / "use.py").write_text(python.replace("96, 96, 32", "32, 32, 8"), encoding="utf-8")
    follow(["python use.py"], user)
    follow([segment], user, SCANS=str(scan), RESULTS=str(results))
    assert nib.load(results / scan.name.replace(".nii.gz", "_seg.nii.gz")).shape == nib.load(scan).shape
    assert (user / "hub_bundles" / name / "models/model.pt").stat().st_size == (
        bundle / "models/model.pt"
    ).stat().st_size
