"""What is packed: the tracked files and the weights, and nothing else that lies around."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_checkout import git

from development.release.bundle_files import bundle_files, uncommitted_files


def test_tracked_files_and_weights_are_the_bundle_and_nothing_else_is(bundle: Path) -> None:
    before = bundle_files(bundle)
    for name in (
        "configs/mine.yaml",
        "scripts/mine.py",
        "patients.csv",
        "models/model_info.json",
        "runs/scan.nii.gz",
        ".secret",
    ):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("private", encoding="utf-8")
    assert bundle_files(bundle) == before
    assert {"LICENSE", "configs/inference.json", "models/model.pt", "scripts/__init__.py"} <= set(before)
    assert before == sorted(before)


def test_weights_are_packed_though_git_does_not_track_them(bundle: Path) -> None:
    git(bundle, "rm", "--cached", "models/model.pt")
    assert "models/model.pt" in bundle_files(bundle)


def test_nothing_beside_the_list_is_packed_though_git_tracks_it(bundle: Path) -> None:
    before = bundle_files(bundle)
    for name in ("notes.txt", "docs/scores.csv", "tests/test_it.py", "scripts/.hidden", "configs/study/mine.yaml"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("text", encoding="utf-8")
        git(bundle, "add", "--force", name)
    assert bundle_files(bundle) == before


def test_hidden_files_and_what_a_release_writes_anew_are_left_out(bundle: Path) -> None:
    (bundle / "models/model_info.json").write_text("{}", encoding="utf-8")
    git(bundle, "add", "models/model_info.json")
    names = bundle_files(bundle)
    assert not {".gitignore", "models/model_info.json", "large_files.yml"} & set(names)


def test_missing_weights_are_refused_with_the_remedy(bundle: Path) -> None:
    (bundle / "models/model.pt").unlink()
    with pytest.raises(FileNotFoundError, match="no weights at .*model.pt: train, and copy"):
        bundle_files(bundle)


def test_a_tracked_file_that_is_gone_is_named(bundle: Path) -> None:
    (bundle / "LICENSE").unlink()
    with pytest.raises(ValueError, match="LICENSE is tracked by git and not there"):
        bundle_files(bundle)


def test_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("text", encoding="utf-8")
    (bundle / "scripts/link.md").symlink_to(tmp_path / "elsewhere")
    git(bundle, "add", "scripts/link.md")
    with pytest.raises(ValueError, match="scripts/link.md is a link"):
        bundle_files(bundle)


def test_a_folder_without_git_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a git checkout .* git init"):
        bundle_files(tmp_path)


def test_changes_since_the_last_commit_are_listed(bundle: Path) -> None:
    assert uncommitted_files(bundle) == []
    (bundle / "README.md").write_text("changed", encoding="utf-8")
    (bundle / "untracked.txt").write_text("new", encoding="utf-8")
    assert uncommitted_files(bundle) == ["README.md"]
