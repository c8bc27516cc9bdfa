"""Which files are the bundle: what git tracks and the weights, so that nothing private slips into a release."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

WEIGHTS = "models/model.pt"
MODEL_INFO = "models/model_info.json"
LARGE_FILES = "large_files.yml"
NOT_PACKED = (MODEL_INFO, LARGE_FILES)
"""Written anew by every release: the first holds the checksum of the zip itself."""


def bundle_files(root: Path) -> list[str]:
    """Files of the bundle, relative to its root, in the order of their names.

    Hidden files and those of :data:`NOT_PACKED` are left out; the weights are in whether git tracks them or not.

    Raises:
        ValueError: not a git checkout, or a tracked file is a link or is gone.
        FileNotFoundError: there are no weights.
    """
    names = {name for name in tracked_files(root) if not hidden(name) and name not in NOT_PACKED}
    if not (root / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"no weights at {root / WEIGHTS}: train, and copy the model.pt of the run there before a release."
        )
    for name in sorted(names | {WEIGHTS}):
        path = root / name
        if path.is_symlink():
            raise ValueError(f"{name} is a link, which does not survive in a zip: put the file itself in its place.")
        if not path.is_file():
            raise ValueError(f"{name} is tracked by git and not there: restore it, or remove it with git rm.")
    return sorted(names | {WEIGHTS})


def hidden(name: str) -> bool:
    """Whether a file or a folder above it is hidden."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def tracked_files(root: Path) -> list[str]:
    """What git tracks below a folder.

    Raises:
        ValueError: it is no git checkout.
    """
    return _git(root, ["ls-files", "-z"])


def uncommitted_files(root: Path) -> list[str]:
    """Tracked files below a folder that differ from the last commit: they are packed as they lie there."""
    return [
        entry[3:] for entry in _git(root, ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "."])
    ]


def _git(root: Path, arguments: Sequence[str]) -> list[str]:
    """Entries of a git command that ends each with a zero byte."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ValueError("git is not installed; a release packs what git tracks.") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(
            f"{root} is not a git checkout ({' '.join(reason)}). A release packs what git tracks: release from a "
            "clone, or make one with git init and git add."
        )
    return [entry for entry in done.stdout.decode().split("\0") if entry]
