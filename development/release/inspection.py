"""Looking into a downloaded release before it is unpacked or used."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

from development.release.archive import archive_members
from development.release.metadata import METADATA, read_metadata
from development.release.pickles import refuse_unexpected_pickles
from scripts.files.result_files import digest


def inspect_release(path: Path, sha256: str | None = None) -> list[str]:
    """Check a zip without running anything of it, and return the names of its files.

    Args:
        path: the zip.
        sha256: expected checksum; not compared if None.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another checksum, a member that climbs out, a link, an unexpected pickle, or metadata that would be
            evaluated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give the path of a downloaded zip.")
    if sha256 is not None and digest(path) != sha256.lower():
        raise ValueError(f"{path} has the sha256 {digest(path)}, expected {sha256}: download it again, do not use it.")
    names = archive_members(path)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        for name in names:
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        refuse_unexpected_pickles({name: Path(folder, name) for name in names})
        top = names[0].split("/")[0]
        if f"{top}/{METADATA}" not in names:
            raise ValueError(f"{path} holds no {top}/{METADATA}: it is not a bundle.")
        read_metadata(Path(folder, top))
    return names
