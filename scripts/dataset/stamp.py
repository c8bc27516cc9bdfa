"""The memory of a check without problems: a digest of all files of the dataset beside what the check found."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scripts.dataset.datalist_file import files_of

if TYPE_CHECKING:
    from scripts.dataset.check import DatasetSummary

logger = logging.getLogger(__name__)

# Raise it when a check is added or tightened, so that stamps of older checks no longer count.
CHECK_VERSION = 3


def dataset_digest(splits: Mapping[str, Sequence[Mapping[str, Any]]], settings: Sequence[Any]) -> str:
    """Digest the cases, the settings of the check, and path, size and modification time of every file.

    A file that is rewritten with the same size and a restored modification time goes unnoticed: the content itself
    is not read, which is the point.
    """
    cases = {split: [dict(case) for case in entries] for split, entries in splits.items()}
    paths = {path for entries in splits.values() for path in files_of(entries)}
    files = [_file_state(path) for top in sorted(paths) for path in _files_of(top)]
    content = json.dumps([CHECK_VERSION, cases, list(settings), files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _files_of(path: str) -> Iterator[str]:
    """The file itself, or the files of a DICOM series folder."""
    if not os.path.isdir(path):
        yield path
        return
    for name in sorted(os.listdir(path)):
        yield os.path.join(path, name)


def _file_state(path: str) -> tuple[str, int, int]:
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return path, -1, -1
    return path, state.st_size, state.st_mtime_ns


def read_stamp(stamp: str, digest: str) -> dict[str, Any] | None:
    """Fields of the remembered ``DatasetSummary``, None if there is no stamp of that digest."""
    try:
        with open(stamp, encoding="utf-8") as stream:
            content = json.load(stream)
        summary: dict[str, Any] | None = content["summary"] if content["digest"] == digest else None
    # A stamp that cannot be read costs one check, nothing more.
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary


def write_stamp(stamp: str, digest: str, summary: DatasetSummary) -> None:
    """Remember a check; a place that cannot be written to is logged, not raised, since the dataset is in order."""
    draft = f"{stamp}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(stamp)), exist_ok=True)
        with open(draft, "w", encoding="utf-8") as stream:
            json.dump({"digest": digest, "summary": asdict(summary)}, stream, indent=1)
        os.replace(draft, stamp)
    except OSError as error:
        logger.warning("The dataset check cannot be remembered in %s (%s); it will run again next time.", stamp, error)
