"""After the upload: the repository refers to an address only when the right file came from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_server import serving
from published_release import Published
from tiny_checkout import OTHER_WEIGHTS, read_json

from development.release import build
from development.release.__main__ import main
from development.release.build import build_release
from development.release.large_files import asset_name, confirm_release, read_large_files


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
