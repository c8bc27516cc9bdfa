"""Files at an address: described with their sha256, and downloaded by MONAI only when they are what was described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import ContentTooShortError, HTTPError

import pytest
import yaml
from local_server import serving
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files
from tiny_checkout import OTHER_WEIGHTS

from development.release.large_files import (
    LargeFile,
    asset_name,
    large_files_text,
    read_large_files,
    refuse_changed_files,
    served_files,
)
from scripts.files.result_files import digest

CONTENT = bytes(range(256)) * 64
TRUNCATED = "truncated.pt"
OTHER_HASH = "0" * 64


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server with the file, once whole and once broken off in the middle."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("good.pt", TRUNCATED):
        (folder / name).write_bytes(CONTENT)
    with serving(folder, truncated=[TRUNCATED]) as url:
        yield url


def bundle_of(folder: Path, url: str, sha256: str | None = None) -> Path:
    """A bundle whose one large file is models/large.pt."""
    (folder / "models").mkdir(parents=True)
    (folder / "source").write_bytes(CONTENT)
    file = LargeFile("models/large.pt", url, sha256 or digest(folder / "source"))
    (folder / "large_files.yml").write_text(large_files_text([file]), encoding="utf-8")
    return folder


def left(root: Path) -> list[str]:
    return [path.name for path in (root / "models").iterdir()]


def test_a_good_file_is_downloaded(address: str, tmp_path: Path) -> None:
    root = bundle_of(tmp_path / "bundle", f"{address}/good.pt")
    download_large_files(str(root))
    assert (root / "models/large.pt").read_bytes() == CONTENT
    assert left(root) == ["large.pt"]


def test_a_file_that_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    root = bundle_of(tmp_path / "bundle", "http://127.0.0.1:9/nobody-answers")
    (root / "models/large.pt").write_bytes(CONTENT)
    download_large_files(str(root))
    assert (root / "models/large.pt").read_bytes() == CONTENT


def test_a_file_that_is_there_and_differs_is_refused_and_kept(address: str, tmp_path: Path) -> None:
    root = bundle_of(tmp_path / "bundle", f"{address}/good.pt")
    (root / "models/large.pt").write_bytes(b"own weights")
    with pytest.raises(HashCheckError, match="existing file failed"):
        download_large_files(str(root))
    assert (root / "models/large.pt").read_bytes() == b"own weights"


@pytest.mark.parametrize(
    ("name", "sha256", "error"),
    [
        ("good.pt", OTHER_HASH, HashCheckError),
        (TRUNCATED, None, ContentTooShortError),
        ("missing.pt", None, HTTPError),
    ],
    ids=["wrong hash", "truncated", "missing"],
)
def test_a_bad_download_is_an_error_and_leaves_nothing(
    address: str, tmp_path: Path, name: str, sha256: str | None, error: type[Exception]
) -> None:
    root = bundle_of(tmp_path / "bundle", f"{address}/{name}", sha256)
    with pytest.raises(error):
        download_large_files(str(root))
    assert left(root) == []


def test_an_entry_that_leads_out_of_the_bundle_is_refused_by_monai_and_by_us(address: str, tmp_path: Path) -> None:
    root = bundle_of(tmp_path / "bundle", f"{address}/good.pt")
    text = (root / "large_files.yml").read_text(encoding="utf-8")
    (root / "large_files.yml").write_text(text.replace("models/large.pt", "../out.pt"), encoding="utf-8")
    with pytest.raises(ValueError, match="path traversal"):
        download_large_files(str(root))
    with pytest.raises(ValueError, match="is outside of the bundle"):
        read_large_files(root)
    assert not (tmp_path / "out.pt").exists()


def test_what_is_described_is_read_back(bundle: Path) -> None:
    files = served_files(bundle, [OTHER_WEIGHTS, f"./{OTHER_WEIGHTS}"], "https://example.org/r/", "agscl_v1.0.0")
    url = f"https://example.org/r/{asset_name('agscl_v1.0.0', OTHER_WEIGHTS)}"
    assert files == [LargeFile(OTHER_WEIGHTS, url, digest(bundle / OTHER_WEIGHTS))]
    assert url.endswith("/agscl_v1.0.0_models_other_model.pt")
    (bundle / "large_files.yml").write_text(large_files_text(files), encoding="utf-8")
    assert read_large_files(bundle) == files
    refuse_changed_files(bundle, files)


def test_without_large_files_the_list_is_empty_and_says_so() -> None:
    text = large_files_text([])
    assert yaml.safe_load(text) == {"large_files": []}
    assert "every file of this bundle lies in it" in text


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    root = bundle_of(tmp_path, "https://example.org/large.pt", OTHER_HASH)
    (root / "models/large.pt").write_bytes(CONTENT)
    with pytest.raises(ValueError, match="models/large.pt is not the file of large_files.yml"):
        refuse_changed_files(root, read_large_files(root))


def test_a_large_file_without_an_address_is_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match="say with --base_url where"):
        served_files(bundle, [OTHER_WEIGHTS], None, "agscl_v1.0.0")


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://example.org", "https://", "https://e.org/x?token=1", "file:///x"]
)
def test_what_is_no_address_of_a_folder_is_refused(bundle: Path, url: str) -> None:
    with pytest.raises(ValueError, match="expected the https:// address of a folder"):
        served_files(bundle, [], url, "agscl_v1.0.0")


def test_a_path_that_is_not_there_or_outside_is_refused(bundle: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no models/none.pt"):
        served_files(bundle, ["models/none.pt"], "https://example.org", "agscl_v1.0.0")
    with pytest.raises(ValueError, match="is outside of the bundle"):
        served_files(bundle, ["../model.pt"], "https://example.org", "agscl_v1.0.0")


GOOD: dict[str, Any] = {"path": "models/a.pt", "url": "https://example.org/a.pt", "hash_val": OTHER_HASH}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "has no list 'large_files'"),
        ({"large_files": [{"path": "models/a.pt"}]}, "lacks one of path, url and hash_val"),
        ({"large_files": [GOOD | {"hash_val": "abc"}]}, "64 hexadecimal digits"),
        ({"large_files": [GOOD | {"hash_type": "md5"}]}, "needs the sha256"),
        ({"large_files": [GOOD | {"fuzzy": True}]}, "hands to its downloader"),
        ({"large_files": [GOOD | {"url": "file:///etc/passwd"}]}, "expected the https:// address"),
    ],
)
def test_an_entry_that_clients_could_not_check_is_refused(content: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "large_files.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        read_large_files(tmp_path)


def test_two_lists_are_refused_and_none_is_an_empty_one(tmp_path: Path) -> None:
    assert read_large_files(tmp_path) == []
    for name in ("large_files.yml", "large_files.json"):
        (tmp_path / name).write_text('{"large_files": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="clients merge them: keep one"):
        read_large_files(tmp_path)
