"""A run belongs to one process at a time: several studies with the same arguments then share the work."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "claimed"


@contextmanager
def claimed(folder: Path) -> Iterator[int | None]:
    """Claim a folder for this process and for the children that it hands the file to.

    The operating system holds the lock, not the file: when the process and its children have ended, however they
    ended, the claim is gone. A training that outlived a killed study keeps its folder until it is done.

    Args:
        folder: made if missing.

    Yields:
        The descriptor of the lock, to be passed to children (`pass_fds`); None if another process has the folder.
    """
    if sys.platform == "win32":
        raise ValueError("Windows has no file locks of this kind: run the study under WSL or Linux.")
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)
