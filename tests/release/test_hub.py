"""Hub and address: uploaded, downloaded from there again, and referred to only when the right file came from there."""

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
from tiny_checkout import OTHER_WEIGHTS, Published, read_json

from development.release import build
from development.release.__main__ import main
from development.release.build import build_release
from development.release.large_files import asset_name, confirm_release, read_large_files
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


def test_what_is_served_is_written_down(published: Published, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(published.folder.parent)
    assert main(["confirm", "--bundle_root", str(bundle), "--output_dir", output]) == 0
    said = capsys.readouterr().out
    other = f"{published.base_url}/{asset_name(published.folder.name, OTHER_WEIGHTS)}"
    assert f"served: {published.zip_url}" in said and f"served: {other}" in said
    assert read_json(bundle / "models/model_info.json")[published.folder.name]["source"] == published.zip_url
    assert [file.url for file in read_large_files(bundle)] == [other]


@pytest.mark.parametrize("fault", ["missing", "truncated", "other"])
def test_a_file_that_is_not_served_as_built_is_refused_and_nothing_is_written(
    fault: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "failed_checks", lambda root: {})
    output, before = bundle.parent / "dist", (bundle / "large_files.yml").read_bytes()
    output.mkdir()
    truncated: list[str] = []
    with serving(output, truncated=truncated) as address:
        release = build_release(bundle, output, f"{address}/uploaded", [OTHER_WEIGHTS])
        (release / "upload").rename(output / "uploaded")
        served = output / "uploaded" / asset_name(release.name, OTHER_WEIGHTS)
        if fault == "missing":
            served.unlink()
        elif fault == "truncated":
            truncated.append(served.name)
        else:
            served.write_bytes(b"something else")
        with pytest.raises(ValueError, match=f"{served.name} does not serve the file that was built"):
            confirm_release(bundle, output)
    assert not (bundle / "models/model_info.json").exists()
    assert (bundle / "large_files.yml").read_bytes() == before


def test_a_release_without_addresses_has_nothing_to_confirm(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no addresses: build the release with --base_url first"):
        confirm_release(bundle, tmp_path)
