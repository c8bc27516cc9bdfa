"""Files at an address: described with their sha256, and downloaded by MONAI only when they are what was described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import ContentTooShortError, HTTPError
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from local_server import serving
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files, get_bundle_info, get_bundle_versions
from tiny_checkout import OTHER_WEIGHTS

from development.release.large_files import (
    LargeFile,
    asset_name,
    large_files_text,
    read_large_files,
    refuse_changed_files,
    served_files,
)
from development.release.model_info import model_info_text, read_model_info, release_entry, with_release
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


ENTRY = {"checksum": "a" * 40, "source": "https://example.org/agscl_v0.1.0.zip", "sha256": "b" * 64}


def test_monai_finds_the_latest_version_and_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = with_release({"agscl_ct_v0.1.0": ENTRY}, "agscl_ct_v0.2.0", ENTRY | {"source": "https://example.org/2.zip"})
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model_info.json").write_text(model_info_text(info), encoding="utf-8")
    get = requests.get
    with serving(tmp_path) as address:

        def from_here(url: str, **settings: Any) -> requests.Response:
            parts = urlsplit(url)  # https://raw.githubusercontent.com/someone/repository/main/models/model_info.json
            assert (parts.hostname, parts.path.split("/")[3]) == ("raw.githubusercontent.com", "main")
            return get(f"{address}/{'/'.join(parts.path.split('/')[4:])}", **settings)

        monkeypatch.setattr(requests, "get", from_here)
        where: dict[str, Any] = {"repo": "someone/repository", "tag": "main"}
        assert get_bundle_versions("agscl_ct", **where)["latest_version"] == "0.2.0"
        assert get_bundle_info("agscl_ct", **where)["browser_download_url"] == "https://example.org/2.zip"
        assert get_bundle_info("agscl_ct", version="0.1.0", **where)["browser_download_url"] == ENTRY["source"]


def test_the_checksum_is_the_sha1_of_the_zip_beside_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"abc")
    assert release_entry(tmp_path / "a.zip", "https://example.org/a.zip") == {
        "checksum": "a9993e364706816aba3e25717850c26c9cd0d89d",
        "source": "https://example.org/a.zip",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_a_published_version_does_not_change_its_content_but_may_move() -> None:
    info = {"agscl_v0.1.0": ENTRY}
    moved = ENTRY | {"source": "https://example.org/moved.zip"}
    assert with_release(info, "agscl_v0.1.0", moved) == {"agscl_v0.1.0": moved}
    with pytest.raises(ValueError, match="agscl_v0.1.0 is published with another content. Raise the version"):
        with_release(info, "agscl_v0.1.0", ENTRY | {"checksum": "c" * 40})


def test_a_newest_version_that_is_not_the_last_as_text_is_refused() -> None:
    with pytest.raises(ValueError, match="clients would not find 0.10.0 .* such as 1.0.0"):
        with_release({"agscl_v0.9.0": ENTRY}, "agscl_v0.10.0", ENTRY)
    assert len(with_release({"agscl_v0.9.0": ENTRY}, "agscl_v0.8.1", ENTRY)) == 2, "fixing an older one is no problem"
    assert len(with_release({"other_v0.9.0": ENTRY}, "agscl_v0.10.0", ENTRY)) == 2, "bundles do not mix"


def test_no_file_is_no_release_and_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model_info.json"
    assert read_model_info(path) == {}
    for content, reason in (
        ("{", "is not JSON"),
        ("[]", "should map"),
        ('{"a_v1.0.0": {"source": "x"}}', "should map"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=reason):
            read_model_info(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "model_info.json"
    path.write_text(model_info_text({"agscl_v0.1.0": ENTRY}), encoding="utf-8")
    assert read_model_info(path) == json.loads(path.read_text(encoding="utf-8")) == {"agscl_v0.1.0": ENTRY}
