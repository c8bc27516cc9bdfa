"""Out and back: what is downloaded, as a zip or from a hub, segments as the original does, to the voxel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import BaseHandler, Request, build_opener, install_opener

import nibabel as nib
import numpy as np
import pytest
from local_server import HubHandler, hub_environment, serving
from monai.bundle import download
from tiny_checkout import OTHER_WEIGHTS, SHAPE, Published

from scripts.files.result_files import digest

CLIENT = Path(__file__).with_name("released_client.py")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, phantom_dir: Path) -> list[str]:
    """A volume for the network and a scan for the workflow."""
    folder = tmp_path_factory.mktemp("asked")
    volume = np.random.default_rng(0).integers(-200, 300, (1, 1, *SHAPE)).astype(np.float32)
    np.save(folder / "volume.npy", volume)
    return [str(folder / "volume.npy"), str(next((phantom_dir / "images").glob("*.nii.gz")))]


def client(source: str, name: str, bundle_dir: Path, asked: list[str], output: Path, **environment: str) -> Path:
    """Run the client, and return where it found the bundle's code."""
    known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(CLIENT), source, name, str(bundle_dir), *asked, str(output)],
        cwd=output.parent,
        env={**known, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1]).resolve()


@pytest.fixture(scope="module")
def original(tiny_bundle: Path, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bundle gives where it lies."""
    output = tmp_path_factory.mktemp("original") / "out"
    client("there", tiny_bundle.name, tiny_bundle.parent, asked, output)
    return output


def label_map(folder: Path) -> Any:
    (path,) = folder.glob("*_seg.nii.gz")
    return nib.load(path)


def require_same_answers(found: Path, expected: Path) -> None:
    scores, labels = np.load(found / "scores.npy"), label_map(found)
    np.testing.assert_array_equal(scores, np.load(expected / "scores.npy"))
    np.testing.assert_array_equal(labels.get_fdata(), label_map(expected).get_fdata())
    np.testing.assert_array_equal(labels.affine, label_map(expected).affine)
    assert len(np.unique(scores.argmax(axis=1))) > 2, "a bundle that finds nothing proves nothing"


def test_the_zip_from_a_web_server_gives_the_original_answers_to_the_voxel(
    published: Published, original: Path, asked: list[str], tmp_path: Path
) -> None:
    code = client(published.zip_url, published.name, tmp_path / "bundles", asked, tmp_path / "out")
    assert (tmp_path / "bundles").resolve() in code.parents, "the code that ran is that of the download"
    require_same_answers(tmp_path / "out", original)
    served = tmp_path / "bundles" / published.name / OTHER_WEIGHTS
    assert digest(served) == digest(published.root / OTHER_WEIGHTS)


class GitHubIsHere(BaseHandler):
    """Answers requests for release files of github.com from the server of the tests."""

    handler_order = 100  # before urllib's own, which would go out

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def https_open(self, request: Request) -> Any:
        page, _, name = request.full_url.rpartition("/")
        assert page == "https://github.com/someone/repository/releases/download/v0.1.0"
        return urlopen_directly(f"{self.base_url}/{name}")


urlopen_directly = build_opener().open


def test_a_release_page_of_github_serves_the_zip_under_its_name_and_version(
    published: Published, tmp_path: Path
) -> None:
    version = published.folder.name.rpartition("_v")[2]
    install_opener(build_opener(GitHubIsHere(published.base_url)))
    try:
        where = {"source": "github", "repo": "someone/repository/v0.1.0", "bundle_dir": str(tmp_path)}
        download(name=published.name, version=version, progress=False, **where)
    finally:
        install_opener(build_opener())
    assert digest(tmp_path / published.zip.name) == digest(published.zip)
    config = "configs/inference.json"
    assert (tmp_path / published.name / config).read_bytes() == (published.root / config).read_bytes()


@pytest.mark.slow
def test_a_hub_gives_the_original_answers_to_the_voxel(
    published: Published, original: Path, asked: list[str], tmp_path: Path
) -> None:
    with serving(published.hub, HubHandler) as address:
        hub = {**hub_environment(address), "HF_HOME": str(tmp_path / "cache")}
        code = client("hub", published.name, tmp_path / "bundles", asked, tmp_path / "out", **hub)
    assert (tmp_path / "bundles").resolve() in code.parents
    require_same_answers(tmp_path / "out", original)
