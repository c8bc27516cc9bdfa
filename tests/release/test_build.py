"""The build: everything that clients download, the same bytes each time, and nothing at all when a check fails."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from tiny_checkout import OTHER_WEIGHTS, Published, git, read_json, write_json

from development.release import build
from development.release.__main__ import main
from development.release.archive import archive_members, inspect_release
from development.release.build import build_release
from development.release.bundle_files import bundle_files
from development.release.large_files import asset_name, read_large_files
from scripts.files.result_files import digest


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what comes after the checks, which have tests of their own."""
    monkeypatch.setattr(build, "failed_checks", lambda root: {})


def test_the_zip_holds_the_bundle_its_card_and_the_addresses_but_not_what_is_served(published: Published) -> None:
    names = {name.partition("/")[2] for name in archive_members(published.zip)}
    expected = {*bundle_files(published.root), "docs/README.md", "large_files.yml"} - {OTHER_WEIGHTS}
    assert names == expected
    with zipfile.ZipFile(published.zip) as archive:
        for name in ("models/model.pt", "configs/inference.json"):
            assert archive.read(f"{published.name}/{name}") == (published.root / name).read_bytes()
        entries = yaml.safe_load(archive.read(f"{published.name}/large_files.yml"))["large_files"]
    (entry,) = entries
    assert entry["url"] == f"{published.base_url}/{asset_name(published.folder.name, OTHER_WEIGHTS)}"
    assert entry["hash_val"] == digest(published.root / OTHER_WEIGHTS) and entry["hash_type"] == "sha256"


def test_further_weights_are_listed_though_git_does_not_track_them(published: Published) -> None:
    assert OTHER_WEIGHTS not in bundle_files(published.root)
    assert (published.folder / "upload" / asset_name(published.folder.name, OTHER_WEIGHTS)).is_file()
    assert [file.path for file in read_large_files(published.folder)] == [OTHER_WEIGHTS]


def test_the_list_of_releases_names_the_zip(published: Published) -> None:
    entry = read_json(published.folder / "model_info.json")[published.folder.name]
    assert entry["source"] == published.zip_url
    assert entry["checksum"] == digest(published.zip, "sha1")


def test_the_checksums_are_those_that_sha256sum_reads(published: Published) -> None:
    done = subprocess.run(["sha256sum", "--check", "sha256sums.txt"], cwd=published.zip.parent, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK") == 2


def test_the_hub_folder_is_the_zip_with_a_card_that_a_hub_reads(published: Published) -> None:
    there = {path.relative_to(published.hub).as_posix() for path in published.hub.rglob("*") if path.is_file()}
    packed = {name.partition("/")[2] for name in archive_members(published.zip)}
    assert there == (packed - {"docs/README.md"}) | {"README.md", ".gitattributes"}
    card = (published.hub / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "monai"
    assert digest(published.hub / "models/model.pt") == digest(published.root / "models/model.pt")
    assert "*.pt filter=lfs" in (published.hub / ".gitattributes").read_text(encoding="utf-8")


def test_the_zip_passes_the_inspection(published: Published) -> None:
    assert inspect_release(published.zip, digest(published.zip)) == archive_members(published.zip)


@pytest.mark.usefixtures("unchecked")
def test_building_again_from_another_copy_gives_the_same_bytes(published: Published, bundle: Path) -> None:
    target = bundle.parent / "dist"
    again = build_release(bundle, target, published.base_url, [OTHER_WEIGHTS])
    for name in ("upload/sha256sums.txt", "model_info.json", "large_files.yml"):
        assert (again / name).read_bytes() == (published.folder / name).read_bytes()
    assert digest(again / "upload" / published.zip.name) == digest(published.zip)
    (again / "stale").write_text("of a former build", encoding="utf-8")
    build_release(bundle, target, published.base_url, [OTHER_WEIGHTS])
    assert not (again / "stale").exists()
    assert [path.name for path in target.iterdir()] == [again.name], "no temporary folder is left"


@pytest.mark.usefixtures("unchecked")
def test_without_an_address_nothing_refers_to_one(bundle: Path) -> None:
    folder = build_release(bundle, bundle.parent / "dist")
    assert sorted(path.name for path in folder.iterdir()) == ["hub", "large_files.yml", "upload"]
    assert read_large_files(folder) == []
    assert "http" not in (folder / "large_files.yml").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unchecked")
def test_the_default_weights_can_be_served_instead_of_packed(bundle: Path) -> None:
    folder = build_release(bundle, bundle.parent / "dist", "https://example.org/releases/", ["models/model.pt"])
    assert not any(name.endswith(".pt") for name in archive_members(folder / "upload" / f"{folder.name}.zip"))
    (file,) = read_large_files(folder)
    assert file.url == f"https://example.org/releases/{folder.name}_models_model.pt"
    assert digest(folder / "upload" / f"{folder.name}_models_model.pt") == digest(bundle / "models/model.pt")


@pytest.mark.usefixtures("unchecked")
def test_a_published_version_is_not_built_with_another_content(published: Published, bundle: Path) -> None:
    (bundle / "models/model_info.json").write_bytes((published.folder / "model_info.json").read_bytes())
    (bundle / "LICENSE").write_text("changed", encoding="utf-8")
    with pytest.raises(ValueError, match="is published with another content. Raise the version"):
        build_release(bundle, bundle.parent / "dist", published.base_url, [OTHER_WEIGHTS])
    assert list((bundle.parent / "dist").iterdir()) == []


@pytest.mark.usefixtures("unchecked")
def test_uncommitted_changes_are_said(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "LICENSE").write_text("changed", encoding="utf-8")
    build_release(bundle, bundle.parent / "dist")
    assert "note: LICENSE differs from the last commit" in capsys.readouterr().out


def test_when_checks_fail_nothing_is_written_and_every_reason_is_said(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files_only = {title: check for title, check in build_checks().items() if title in ("no pickles", "weights fit")}
    monkeypatch.setattr("development.release.zoo_checks.CHECKS", files_only)
    (bundle / "scripts/cache.pkl").write_bytes(b"x")
    git(bundle, "add", "--force", "scripts/cache.pkl")
    (bundle / "models/model.pt").unlink()
    torch.save({"weight": torch.zeros(2)}, bundle / "models/model.pt")
    assert main(["build", "--bundle_root", str(bundle), "--output_dir", str(bundle.parent / "dist")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: 2 of the checks failed, nothing was written.")
    assert "scripts/cache.pkl is a pickle" in said and "are of another network" in said
    assert not (bundle.parent / "dist").exists()


def build_checks() -> dict[str, object]:
    from development.release.zoo_checks import CHECKS

    return dict(CHECKS)


def test_arguments_that_do_not_fit_are_refused_before_the_checks(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["build", "--bundle_root", str(bundle), "--output_dir", str(bundle.parent / "dist")]
    assert main([*options, "--large_file", OTHER_WEIGHTS]) == 1
    assert main([*options, "--base_url", "example.org"]) == 1
    write_json(bundle / "configs/metadata.json", read_json(bundle / "configs/metadata.json") | {"version": "1"})
    assert main(options) == 1
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 3 and "ok " not in captured.out
