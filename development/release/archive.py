"""The zip of a release: the same files give the same bytes, and no member can leave the folder."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from scripts.files.atomic_write import replacing

TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""Of every member: the earliest that the format knows."""
PERMISSIONS = 0o644
UNIX = 3


def write_archive(path: Path, folder: str, members: Mapping[str, Path | bytes]) -> None:
    """Write a zip with one folder at the top, whole or not at all.

    Members lie in it in the order of their names, with one time and one set of permissions. They are stored, not
    compressed: weights hardly shrink, and compressed bytes would depend on the version of zlib.

    Args:
        path: file to write.
        folder: name of the folder at the top.
        members: content by the path below that folder, a file or the bytes themselves.

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
