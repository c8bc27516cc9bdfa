"""The memory of a check without problems: a digest of all files of the dataset beside what the check found."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.dataset.datalist_file import files_of
from scripts.files.atomic_write import replacing

logger = logging.getLogger(__name__)

# Raise it when a check is added or tightened, so that stamps of older checks no longer count.
CHECK_VERSION = 3


def dataset_digest(splits: Mapping[str, Sequence[Mapping[str, Any]]], settings: Sequence[Any]) -> str:
    """Digest the cases, the settings of the check, and path, size and modification time of every file.

    A file that is rewritten with the same size and a restored modification time goes unnoticed: the content itself
    is not read, which is the point.
    """
    cases = {split: [dict(case) for case in entries] for split, entries in splits.items()}
    paths = sorted({path for entries in splits.values() for path in files_of(entries)})
    files = [state for path in paths for state in _states(path)]
    content = json.dumps([CHECK_VERSION, cases, list(settings), files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _states(path: str) -> list[tuple[str, int, int]]:
    """Path, size and time of a file, or of the files of a DICOM series folder; of a missing one nothing."""
    if os.path.isdir(path):
        return [state for name in sorted(os.listdir(path)) for state in _states(os.path.join(path, name))]
    if not os.path.exists(path):
        return []
    status = os.stat(path)
    return [(path, status.st_size, status.st_mtime_ns)]


def read_stamp(stamp: str, digest: str) -> dict[str, Any] | None:
    """What was remembered under the digest, None if there is no stamp of it."""
    try:
        with open(stamp, encoding="utf-8") as stream:
            content = json.load(stream)
        return dict(content["summary"]) if content["digest"] == digest else None
    # A stamp that cannot be read costs one check, nothing more.
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(stamp: str, digest: str, summary: Mapping[str, Any]) -> None:
    """Remember a check; a place that cannot be written to is logged, not raised, since the dataset is in order."""
    try:
        with replacing(stamp) as temporary:
            temporary.write_text(json.dumps({"digest": digest, "summary": summary}, indent=1), encoding="utf-8")
    except OSError as error:
        logger.warning("The dataset check cannot be remembered in %s (%s); it will run again next time.", stamp, error)
