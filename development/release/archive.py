"""The zip of a release: the same files give the same bytes, and no member can leave the folder."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from development.release.metadata import METADATA, read_metadata
from scripts.files.atomic_write import replacing
from scripts.files.result_files import digest
from scripts.runtime.resume import load_checkpoint

TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""Of every member: the earliest that the format knows."""
PERMISSIONS = 0o644
UNIX = 3


def write_archive(path: Path, folder: str, members: Mapping[str, Path | bytes]) -> None:
    """Write a zip with one folder at the top, whole or not at all.

    Members lie in it in the order of their names, with one time and one set of permissions. They are stored, not
    compressed: weights hardly shrink, and compressed bytes would depend on the version of zlib. A member is a file or
    the bytes themselves, by its path below the folder.

    Raises:
        ValueError: a member's path would leave the folder.
    """
    for name in members:
        require_safe(f"{folder}/{name}")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(f"{folder}/{name}", TIMESTAMP)
            info.create_system = UNIX
            info.external_attr = (stat.S_IFREG | PERMISSIONS) << 16
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.stat().st_size
            with content.open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def require_safe(name: str) -> None:
    """Refuse the path of a member that could be unpacked outside of the folder.

    Raises:
        ValueError: absolute, climbing, with a drive, or written with backslashes.
    """
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or ".." in parts or "\\" in name or re.match(r"[A-Za-z]:", name):
        raise ValueError(
            f"the zip holds {name!r}, which would be unpacked outside of the bundle's folder: do not unpack it."
        )


def archive_members(path: Path) -> list[str]:
    """Names of the files in a released zip, after checking that it is one.

    Raises:
        ValueError: it is no zip, is damaged, has links, members that climb out, several with one name, or more than
            one folder at the top.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            for info in members:
                require_safe(info.filename)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ValueError(f"the zip holds a link, {info.filename!r}: do not unpack it.")
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip ({error}): download it again.") from error
    if damaged:
        raise ValueError(f"{path} is damaged, {damaged} does not have its checksum: download it again.")
    names = [info.filename for info in members]
    folded = [name.casefold() for name in names]
    if len(set(folded)) != len(folded):
        twice = next(name for name in names if folded.count(name.casefold()) > 1)
        raise ValueError(f"{path} holds {twice!r} twice, so that one would replace the other: do not unpack it.")
    tops = sorted({name.split("/")[0] for name in names})
    if len(tops) != 1 or any("/" not in name for name in names):
        raise ValueError(f"{path} should hold the one folder of a bundle, and holds {tops[:5]}.")
    return names


def inspect_release(path: Path, sha256: str | None = None) -> list[str]:
    """Check a zip, and its checksum if one is given, without running anything of it; return the names of its files.

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


WEIGHT_SUFFIX = ".pt"
PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".joblib", ".dill", ".pth", ".ckpt", ".ts", ".npy", ".npz", ".mar", ".bin"}
"""Formats that hold pickles or programs, or can."""
PICKLE_PROTOCOLS = {bytes([0x80, protocol]) for protocol in range(2, 6)}


def refuse_unexpected_pickles(files: Mapping[str, Path]) -> None:
    """Refuse files that hold pickles, except for weights that load as tensors and plain values only.

    The files are given by the names to report them under.

    Raises:
        ValueError: the first such file, with the reason.
    """
    for name, path in files.items():
        if PurePosixPath(name).suffix.lower() == WEIGHT_SUFFIX:
            load_checkpoint(path)
        elif holds_pickle(name, path):
            raise ValueError(
                f"{name} is a pickle or may hold one, and opening a pickle runs what is in it. A release holds weights "
                f"(*{WEIGHT_SUFFIX}), text and pictures: remove it."
            )


def holds_pickle(name: str, path: Path) -> bool:
    """Whether a file is a pickle or a container of one, by its name or its first bytes."""
    if PurePosixPath(name).suffix.lower() in PICKLE_SUFFIXES:
        return True
    with path.open("rb") as file:
        if file.read(2) in PICKLE_PROTOCOLS:
            return True
    if zipfile.is_zipfile(path):  # torch.save and TorchScript, whatever the file is called
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(member).suffix in PICKLE_SUFFIXES for member in archive.namelist())
    return False
