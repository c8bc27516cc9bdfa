"""Hashing files before and after a command: what it reads it must leave as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Fail if a file that is in the folder now is changed or gone afterwards."""
    before = hashes(folder)
    yield
    after = hashes(folder)
    assert {path: after.get(path) for path in before} == before


def hashes(folder: Path) -> dict[Path, str]:
    return {path: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}
