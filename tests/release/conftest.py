"""Fixtures of the release tests: a tiny bundle, copies of it to break, and its release on a web server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import serving
from tiny_checkout import OTHER_WEIGHTS, Published, copy_bundle, read_json, write_tiny_bundle

from development.release.__main__ import main
from development.release.metadata import versioned_name


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle with tiny networks; not to be changed."""
    root = tmp_path_factory.mktemp("bundle") / "agscl"
    root.mkdir()
    return write_tiny_bundle(root)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return copy_bundle(tiny_bundle, tmp_path / "bundle")


@pytest.fixture(scope="session")
def published(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Its release, built by the command with every check, and served; further weights at an address of their own."""
    output = tmp_path_factory.mktemp("dist")
    release = versioned_name(read_json(tiny_bundle / "configs/metadata.json"))
    with serving(output) as address:
        base_url = f"{address}/{release}/upload"
        options = ["--output_dir", str(output), "--base_url", base_url, "--large_file", OTHER_WEIGHTS]
        assert main(["build", "--bundle_root", str(tiny_bundle), *options]) == 0
        yield Published(tiny_bundle, output / release, base_url)
