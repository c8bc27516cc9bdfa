"""Checksums of files, read block by block."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, in hexadecimal digits."""
    checksum = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            checksum.update(block)
    return checksum.hexdigest()
