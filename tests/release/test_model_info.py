"""The list of releases: readable by MONAI, never changing what is published, the newest also last as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from local_server import serving
from monai.bundle import get_bundle_info, get_bundle_versions

from development.release.model_info import model_info_text, read_model_info, release_entry, with_release

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
