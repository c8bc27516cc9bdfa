"""Checking and writing a dataset.json: nothing is written unless every file of it is in order."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.dataset.check import DatasetSummary, check_dataset
from scripts.dataset.datalist_file import PATH_KEYS, files_of, read_datalist, split_names
from scripts.dataset.datalists import load_cases
from scripts.files.atomic_write import replacing
from scripts.files.result_files import claim_outputs

DATALIST = "dataset.json"


def labels_of(organs: Sequence[str]) -> dict[str, str]:
    """The Decathlon's map of values, numbered from 1: ``["liver"]`` -> ``{"0": "background", "1": "liver"}``."""
    return {"0": "background", **{str(value): organ for value, organ in enumerate(organs, start=1)}}


def write_datalist(folder: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write a datalist as ``dataset.json``; paths below the folder become relative, so that it can be moved.

    Raises ValueError if nothing can be written there, or a scan, label or other datalist would be written over.
    """
    path = Path(folder).absolute() / DATALIST
    claim_outputs([path], files_listed(content), new=not _is_written(path, content))
    with replacing(path) as temporary:
        temporary.write_text(_text(path.parent, content), encoding="utf-8")
    return path


def _is_written(path: Path, content: Mapping[str, Any]) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == _text(path.parent, content)


def claim_datalists(
    folders: Sequence[Path], contents: Sequence[Mapping[str, Any]], others: Sequence[Path] = ()
) -> None:
    """Raise ValueError, before the files are read, if something of another preparation would be replaced.

    Where these datalists are there already, the others, which are made from them, may be written anew.
    """
    paths = [folder.absolute() / DATALIST for folder in folders]
    missing = [path for path, content in zip(paths, contents, strict=True) if not _is_written(path, content)]
    claim_outputs([*missing, *(others if missing else ())], [], new=True)


def _text(root: Path, content: Mapping[str, Any]) -> str:
    placed = {split: [_placed(entry, root) for entry in content[split]] for split in split_names(content)}
    text = json.dumps({**content, **placed}, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # \udcff for a byte of a name that is not UTF-8


def files_listed(content: Mapping[str, Any]) -> list[str]:
    """Scans and labels of a datalist whose paths are absolute."""
    return files_of(entry for split in split_names(content) for entry in content[split])


def _placed(entry: Mapping[str, Any], root: Path) -> dict[str, Any]:
    paths = {key: Path(entry[key]) for key in PATH_KEYS if key in entry}
    inside = {key: path.relative_to(root).as_posix() for key, path in paths.items() if path.is_relative_to(root)}
    return {**entry, **inside}


def read_absolute(path: str) -> dict[str, Any]:
    """Read a datalist with every path made absolute and every entry a dictionary; see :func:`write_datalist`."""
    content, root = read_datalist(path), os.path.dirname(os.path.abspath(path))
    for split in split_names(content):
        entries = [{"image": entry} if isinstance(entry, str) else dict(entry) for entry in content[split]]
        for entry in entries:
            entry |= {key: os.path.normpath(os.path.join(root, entry[key])) for key in PATH_KEYS if entry.get(key)}
        content[split] = entries
    return content


def check_datalist(content: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str] = ()) -> DatasetSummary:
    """Open every file of a datalist before it is written; a ``DatasetError`` lists all problems at once."""
    with tempfile.TemporaryDirectory() as folder:
        write_datalist(folder, content)
        splits = {split: load_cases(folder, split, organs) for split in split_names(content) if content[split]}
    return check_dataset(splits, organs, phases)
