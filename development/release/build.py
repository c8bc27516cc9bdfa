"""Building a release: checked, packed in every form that clients download, and put in place as a whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from development.release.archive import write_archive
from development.release.bundle_files import LARGE_FILES, MODEL_INFO, bundle_files, is_packed, uncommitted_files
from development.release.large_files import LargeFile, asset_name, large_files_text, require_url, served_files
from development.release.metadata import bundle_name, read_metadata, versioned_name
from development.release.model_card import front_matter, licence_text, model_card
from development.release.model_info import model_info_text, read_model_info, release_entry, with_release
from development.release.zoo_checks import failed_checks
from scripts.files.result_files import digest

UPLOAD, HUB, CHECKSUMS = "upload", "hub", "sha256sums.txt"
CARD = "docs/README.md"


@dataclass(frozen=True)
class Plan:
    """What a release is made of: the bundle in `root`, its metadata, and files left out of the zip (`served`).

    The upload folder goes to `base_url`, without a slash at its end; with None no file gets an address.
    """

    root: Path
    metadata: dict[str, Any]
    base_url: str | None
    served: list[LargeFile]

    @property
    def release(self) -> str:
        """The release's name with its version."""
        return versioned_name(self.metadata)

    def members(self) -> dict[str, Path | bytes]:
        """Content of the zip by the path below the bundle's root."""
        left_out = {file.path for file in self.served}
        files: dict[str, Path | bytes] = {
            name: self.root / name for name in bundle_files(self.root) if name not in left_out
        }
        return {
            **files,
            LARGE_FILES: large_files_text(self.served).encode(),
            CARD: model_card(self.metadata).encode(),
        }


def build_release(root: Path, output_dir: Path, base_url: str | None = None, large_files: Sequence[str] = ()) -> Path:
    """Check the bundle and write its release to `output_dir`/<name>_v<version>; a former one there is replaced.

    The bundle is a git checkout with weights. The folder `upload` will be uploaded to `base_url`; the large files,
    relative to the root, are served from there instead of packed. Returns the folder of the release.

    Raises:
        ValueError: a check fails, or the arguments do not fit; nothing is written then.
        FileNotFoundError: a file that belongs to every bundle is missing.
    """
    metadata = read_metadata(root)
    base = None if base_url is None else require_url(base_url)
    plan = Plan(root, metadata, base, served_files(root, large_files, base_url, versioned_name(metadata)))
    read_model_info(root / MODEL_INFO)
    for name in filter(is_packed, uncommitted_files(root)):
        print(f"note: {name} differs from the last commit and is packed as it lies there")
    if failures := failed_checks(root):
        listed = "; ".join(f"{title}: {reason}" for title, reason in failures.items())
        raise ValueError(f"{len(failures)} of the checks failed, nothing was written. {listed}")
    output_dir.mkdir(parents=True, exist_ok=True)
    target = output_dir / plan.release
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".") as folder:
        _write(plan, Path(folder) / plan.release)
        if target.exists():
            target.rename(Path(folder) / "former")
        (Path(folder) / plan.release).rename(target)
    return target


def _write(plan: Plan, folder: Path) -> None:
    """Write every part of a release into a new folder."""
    name, members, upload = bundle_name(plan.metadata), plan.members(), folder / UPLOAD
    upload.mkdir(parents=True)
    archive = upload / f"{plan.release}.zip"
    write_archive(archive, name, members)
    for file in plan.served:
        shutil.copyfile(plan.root / file.path, upload / asset_name(plan.release, file.path))
    lines = [f"{digest(path)}  {path.name}\n" for path in sorted(upload.iterdir())]
    (upload / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
    (folder / LARGE_FILES).write_text(large_files_text(plan.served), encoding="utf-8")
    entry = release_entry(archive, f"{plan.base_url or ''}/{archive.name}")
    releases = with_release(read_model_info(plan.root / MODEL_INFO), plan.release, entry)
    if plan.base_url is not None:
        (folder / Path(MODEL_INFO).name).write_text(model_info_text(releases), encoding="utf-8")
    card = front_matter(plan.metadata, licence_text(plan.root)) + model_card(plan.metadata)
    hub = {path: content for path, content in members.items() if path != CARD}
    write_hub_folder(folder / HUB / name, hub, card)


ATTRIBUTES = "*.pt filter=lfs diff=lfs merge=lfs -text\n"
"""Weights go to large file storage; the hub refuses a larger file that does not."""


def write_hub_folder(folder: Path, members: Mapping[str, Path | bytes], card: str) -> None:
    """Write the hub's form of a bundle to a new folder: the members of the zip, the model card as its README."""
    for name, content in {**members, "README.md": card.encode(), ".gitattributes": ATTRIBUTES.encode()}.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            shutil.copyfile(content, target)
