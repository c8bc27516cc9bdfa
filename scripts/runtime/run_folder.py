"""One folder, one run: results of different settings must not mix when a run is resumed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.files.atomic_write import replacing
from scripts.runtime.processes import first_process_first


class RunPlace:
    """Where objects write that are built before their folder is chosen: fine-tuning moves it before it begins.

    Args:
        folder: what the names of files and folders are relative to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)


def placed(path: str | Path, place: RunPlace | None) -> Path:
    """A path, relative to a place if there is one."""
    return Path(path) if place is None else place.folder / path


def claim_run_folder(output_dir: str, settings: Mapping[str, Any]) -> Path:
    """Create the folder of a run, or check that it belongs to a run with the same settings.

    Args:
        output_dir: folder of checkpoints and results.
        settings: what would make an old checkpoint wrong: organs, spacing, networks, budgets, seed, cases. An object
            counts as its class and those arguments of its constructor that it keeps and that are plain values.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds a run with other settings, which are named; or weights of no run.
    """
    with first_process_first():
        return _claim(Path(output_dir), flat_settings(settings))


def changed_settings(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Settings that differ, a line each, for an error message; empty if none does.

    >>> changed_settings({"seed": 0, "folds": 2}, {"seed": 1, "folds": 2})
    '  seed: was 0, now 1'
    """
    keys = [key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)]
    return "\n".join(f"  {key}: was {found.get(key)}, now {wanted.get(key)}" for key in keys)


def _claim(folder: Path, wanted: dict[str, Any]) -> Path:
    path = folder / "settings.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = changed_settings(found, wanted)
        if changed:
            raise ValueError(
                f"{folder} holds a run with other settings:\n{changed}\nGive another --output_dir, or delete that "
                "folder to start again."
            )
        return folder
    if (folder / "model.pt").exists():
        raise ValueError(
            f"{folder} holds a model.pt that no training of this folder wrote, and it would be written over: give "
            "another --output_dir."
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    return folder


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as plain values by dotted name.

    >>> flat_settings({"seed": 0, "train": {"epochs": 80, "patch": (64, 64)}})
    {'seed': 0, 'train.epochs': 80, 'train.patch': [64, 64]}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if _is_plain(value):
            flat[prefix + key] = json.loads(json.dumps(value))
        else:
            flat |= flat_settings(value if isinstance(value, Mapping) else _kept_arguments(value), f"{prefix}{key}.")
    return flat


def _is_plain(value: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | bool | int | float)


def _kept_arguments(item: Any) -> dict[str, Any]:
    """Class and plain constructor arguments of an object."""
    names = [name for name in inspect.signature(type(item)).parameters if hasattr(item, name)]
    kept = {name: getattr(item, name) for name in names}
    return {"class": type(item).__qualname__} | {name: value for name, value in kept.items() if _is_plain(value)}
