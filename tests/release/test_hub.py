"""The hub folder: uploaded with MONAI's function to a hub on this machine, and downloaded from there again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_uploads import TOKEN, UploadHubHandler
from local_server import hub_environment, serving
from published_release import Published

from scripts.files.result_files import digest

# MONAI exports this function, and has no command of that name.
PUSH = "import sys; from monai.bundle import push_to_hf_hub as push; push(*sys.argv[1:4], version=sys.argv[4] or None)"
PULL = """
import sys
from monai.bundle import download
repo, name, bundle_dir = sys.argv[1:]
download(name, source="huggingface_hub", repo=repo, bundle_dir=bundle_dir, progress=False)
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the hub's client reads its settings once."""
    known = {key: value for key, value in os.environ.items() if key not in ("HF_TOKEN", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**known, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="utf-8",
    )


def checksums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): digest(path) for path in folder.rglob("*") if path.is_file()}


def noted(folder: Path, key: str) -> Any:
    lines = (folder / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return next(line[key] for line in map(json.loads, lines) if key in line)


@pytest.mark.slow
def test_what_was_pushed_to_a_hub_comes_back_byte_by_byte(published: Published, tmp_path: Path) -> None:
    before = checksums(published.hub)
    (tmp_path / "hub/repository").mkdir(parents=True)
    push = [f"someone/{published.name}", published.name, str(published.hub.parent)]
    pull = [f"someone/{published.name}", published.name, str(tmp_path / "back")]
    with serving(tmp_path / "hub/repository", UploadHubHandler) as address:
        here = {**hub_environment(address), "HF_HOME": str(tmp_path / "cache")}
        refused = python(PUSH, *push, "", **here, HF_TOKEN="hf_of_nobody")
        assert refused.returncode != 0 and "401" in refused.stderr
        assert list((tmp_path / "hub/repository").iterdir()) == [], "nothing is written without the right to"
        sent = python(PUSH, *push, "1.2.3", **here, HF_TOKEN=TOKEN)
        assert sent.returncode == 0, sent.stderr[-3000:]
        got = python(PULL, *pull, **here, HF_TOKEN=TOKEN)
        assert got.returncode == 0, got.stderr[-3000:]
    assert checksums(published.hub) == before, "the upload changes nothing in the folder, the model card included"
    assert checksums(tmp_path / "hub/repository") == before
    back = checksums(tmp_path / "back" / published.name)
    assert {name: back[name] for name in before} == before
    assert noted(tmp_path / "hub", "created")["visibility"] == "private"
    assert noted(tmp_path / "hub", "tag") == "1.2.3"
    stored = noted(tmp_path / "hub", "committed")
    assert stored.keys() == before.keys()
    assert {name for name, kind in stored.items() if kind == "lfsFile"} == {n for n in before if n.endswith(".pt")}
