"""models/model_info.json: the released versions with checksum and address, as MONAI and its model zoo read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.files.result_files import digest

ModelInfo = dict[str, dict[str, str]]


def read_model_info(path: Path) -> ModelInfo:
    """The releases so far; none where there is no file.

    Raises:
        ValueError: not the JSON that clients read.
    """
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}).") from error
    entries = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(entry, dict) and {"checksum", "source"} <= entry.keys() for entry in entries):
        raise ValueError(f"{path} should map each <name>_v<version> to its checksum and source.")
    return {str(key): dict(value) for key, value in content.items()}


def release_entry(archive: Path, url: str) -> dict[str, str]:
    """The entry of a zip: `checksum` is its sha1, by the convention of the model zoo; sha256 is ours."""
    return {"checksum": digest(archive, "sha1"), "source": url, "sha256": digest(archive)}


def with_release(info: ModelInfo, release: str, entry: dict[str, str]) -> ModelInfo:
    """The releases with one more.

    Raises:
        ValueError: the version is published with another content, or sorts before an older one: monai.bundle takes
            the last in the order of the text for the latest, and 0.10.0 comes before 0.9.0.
    """
    published = info.get(release)
    if published is not None and published["checksum"] != entry["checksum"]:
        raise ValueError(
            f"{release} is published with another content. Raise the version in configs/metadata.json, with an entry "
            "in its changelog."
        )
    name, _, version = release.rpartition("_v")
    versions = [key.rpartition("_v")[2] for key in info if key.rpartition("_v")[0] == name]
    later = sorted(other for other in versions if other > version)
    if later and _numbers(version) > max(map(_numbers, versions)):
        raise ValueError(
            f"clients would not find {version} as the latest version, they sort as text and {later[-1]} comes after "
            f"it: take a version that is also the last as text, such as {int(later[-1].split('.')[0]) + 1}.0.0."
        )
    return dict(sorted({**info, release: entry}.items()))


def model_info_text(info: ModelInfo) -> str:
    """Content of model_info.json."""
    return json.dumps(info, indent=2) + "\n"


def _numbers(version: str) -> tuple[int, ...]:
    """A version to compare by its numbers."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
