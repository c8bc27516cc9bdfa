"""Writing a file whole or not at all."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a temporary path beside `path`; what was written there takes the place of `path` at the end.

    A reader, or a run that is cut short, never meets half a file. Missing parent folders are made. The temporary file
    has the same extension. If the block raises, it is removed and `path` stays as it was. OSError: the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}{target.name[-16:]}")
    try:
        yield temporary
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:  # the texts of numpy and PyTorch do not say why
        if getattr(error, "errno", 0) != errno.EDQUOT and shutil.disk_usage(target.parent).free > 2**20:  # bytes
            raise
        full = "disk or quota full; free some space, and run the command again."
        raise OSError(errno.ENOSPC, full, str(target.parent)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str, errors: str = "strict") -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)
