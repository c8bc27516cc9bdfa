"""large_files.yml: weights that are not in the zip, each with its address and its sha256."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml
from monai.apps.utils import download_url

from development.release.bundle_files import LARGE_FILES, MODEL_INFO
from development.release.metadata import read_metadata, versioned_name
from development.release.model_info import model_info_text, read_model_info, with_release
from scripts.files.atomic_write import replacing
from scripts.files.result_files import digest

SHA256 = re.compile(r"[0-9a-f]{64}")
NAMES = ("large_files.yml", "large_files.yaml", "large_files.json")
HEADER = """\
# Files of this bundle that are downloaded: python -m monai.bundle download_large_files --bundle_path .
# Written by python -m development.release build; `path` is relative to the bundle's root, `hash_val` is the sha256.
"""


@dataclass(frozen=True)
class LargeFile:
    """A file of the bundle that lies at an address instead of in the zip."""

    path: str
    url: str
    sha256: str

    def entry(self) -> dict[str, str]:
        """The entry that monai.bundle reads."""
        return {"path": self.path, "url": self.url, "hash_val": self.sha256, "hash_type": "sha256"}


def served_files(root: Path, paths: Sequence[str], base_url: str | None, release: str) -> list[LargeFile]:
    """Describe files of the bundle (paths relative to its root) that are to be uploaded to the folder at an address.

    The release, `<name>_v<version>`, is put before the name of each uploaded file: a release page has no folders.

    Raises:
        ValueError: no address for a file, an address that is none, or a path outside of the bundle.
        FileNotFoundError: no such file.
    """
    if paths and base_url is None:
        raise ValueError(f"{', '.join(paths)} would have no address: say with --base_url where they will be uploaded.")
    base = "" if base_url is None else require_url(base_url)
    found = []
    for path in sorted({require_inside(root, path) for path in paths}):
        if not (root / path).is_file():
            raise FileNotFoundError(f"no {path} in {root}: a large file is given relative to the bundle's root.")
        found.append(LargeFile(path, f"{base}/{asset_name(release, path)}", digest(root / path)))
    return found


def asset_name(release: str, path: str) -> str:
    """Name under which a file is uploaded: models/btcv/model.pt -> <release>_models_btcv_model.pt."""
    return f"{release}_{path.replace('/', '_')}"


def require_url(url: str) -> str:
    """A web address without the slash at its end.

    Raises:
        ValueError: it is not http(s) with a host, or has a query or fragment that a file name cannot be added to.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"--base_url is {url!r}, expected the https:// address of a folder, without ? and #.")
    return url.rstrip("/")


def require_inside(root: Path, path: str) -> str:
    """A path below the root, in its plain form.

    Raises:
        ValueError: it leads out of the bundle.
    """
    target = (root / path).resolve()
    if root.resolve() not in target.parents:
        raise ValueError(f"{path} is outside of the bundle {root}: give paths relative to its root.")
    return PurePosixPath(target.relative_to(root.resolve())).as_posix()


def large_files_text(files: Sequence[LargeFile]) -> str:
    """Content of large_files.yml."""
    entries = [file.entry() for file in files]
    note = "" if files else "# Empty, because every file of this bundle lies in it.\n"
    return HEADER + note + yaml.safe_dump({"large_files": entries}, sort_keys=False, width=1000)


def read_large_files(root: Path) -> list[LargeFile]:
    """Read the large_files.* of a bundle, without downloading anything.

    Raises:
        ValueError: an entry without path, address or sha256, one that leads out of the bundle, or several files.
    """
    there = [name for name in NAMES if (root / name).is_file()]
    if len(there) > 1:
        raise ValueError(f"{root} has {' and '.join(there)}, and clients merge them: keep one.")
    if not there:
        return []
    content = yaml.safe_load((root / there[0]).read_text(encoding="utf-8"))
    entries = content.get("large_files") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{there[0]} has no list 'large_files'.")
    return [_read_entry(root, there[0], entry) for entry in entries]


def _read_entry(root: Path, name: str, entry: Any) -> LargeFile:
    """One entry, checked."""
    if not isinstance(entry, dict) or not {"path", "url", "hash_val"} <= entry.keys():
        raise ValueError(f"{name}: {entry} lacks one of path, url and hash_val.")
    unknown = sorted(entry.keys() - {"path", "url", "hash_val", "hash_type"})
    if unknown:
        raise ValueError(f"{name}: {entry['path']} has {unknown}, which monai.bundle hands to its downloader.")
    if entry.get("hash_type", "sha256") != "sha256" or not SHA256.fullmatch(str(entry["hash_val"])):
        raise ValueError(f"{name}: {entry['path']} needs the sha256 of the file as hash_val, 64 hexadecimal digits.")
    require_url(str(entry["url"]))
    return LargeFile(require_inside(root, str(entry["path"])), str(entry["url"]), str(entry["hash_val"]))


def refuse_changed_files(root: Path, files: Sequence[LargeFile]) -> None:
    """Compare the large files that are there with their sha256.

    Raises:
        ValueError: a file that is another one: monai.bundle refuses to go on then, and downloads nothing.
    """
    for file in files:
        if (root / file.path).is_file() and digest(root / file.path) != file.sha256:
            raise ValueError(
                f"{file.path} is not the file of large_files.yml: its sha256 differs. Delete it to download it again."
            )


def confirm_release(root: Path, output_dir: Path) -> list[str]:
    """Download what a release published, and write `models/model_info.json` and `large_files.yml` of the repository.

    The folder of the releases is the one that was given to the build. Returns the addresses.

    Raises:
        FileNotFoundError: the bundle's version was not built there with an address.
        ValueError: an address does not answer, or serves another file; nothing is written then.
    """
    release = versioned_name(read_metadata(root))
    built = output_dir / release
    entry = read_model_info(built / Path(MODEL_INFO).name).get(release)
    if entry is None:
        raise FileNotFoundError(f"{built} has no addresses: build the release with --base_url first.")
    releases = with_release(read_model_info(root / MODEL_INFO), release, entry)
    expected = {entry["source"]: entry["sha256"]}
    expected |= {file.url: file.sha256 for file in read_large_files(built)}
    for url, sha256 in expected.items():
        require_served(url, sha256)
    with replacing(root / MODEL_INFO) as temporary:
        temporary.write_text(model_info_text(releases), encoding="utf-8")
    with replacing(root / LARGE_FILES) as temporary:
        temporary.write_bytes((built / LARGE_FILES).read_bytes())
    return list(expected)


def require_served(url: str, sha256: str) -> None:
    """Download a file and drop it again.

    Raises:
        ValueError: nothing comes, or another file.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            download_url(url, Path(folder) / "file", hash_val=sha256, progress=False)
        except (OSError, RuntimeError, ValueError) as error:  # the last is MONAI's error on a wrong hash
            raise ValueError(f"{url} does not serve the file that was built ({error}): upload it again.") from error
