"""Which files are the bundle: those of a short list that git tracks, so that nothing else slips into a release."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

WEIGHTS = "models/model.pt"
QUALITY = "models/quality.json"
MODEL_INFO = "models/model_info.json"
LARGE_FILES = "large_files.yml"
PACKED = (
    "LICENSE",
    "requirements.txt",
    "requirements-export.txt",
    "requirements-tracking.txt",
    WEIGHTS,
    QUALITY,
    "scripts/*",
    "configs/*.json",
    "configs/*.yaml",
    "configs/logging.conf",
)
"""What a person who downloads the bundle runs; an asterisk also stands for folders."""
NOT_PACKED = (
    "scripts/bootstrap.py",
    "configs/baselines/*",
    "configs/study/*",
    "configs/budgets/demo.yaml",
)
"""What needs a clone of the repository: setting it up, its example data, and the comparisons in development/."""


def bundle_files(root: Path) -> list[str]:
    """Files of the bundle, relative to its root, in the order of their names.

    They are those of :data:`PACKED` without those of :data:`NOT_PACKED` and hidden ones; the weights are in whether git
    tracks them or not. A release adds what it writes anew: the model card and the list of large files.

    Raises:
        ValueError: not a git checkout, or a tracked file is a link or is gone.
        FileNotFoundError: there are no weights.
    """
    names = {name for name in tracked_files(root) if is_packed(name)}
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


def is_packed(name: str) -> bool:
    """Whether a tracked file is part of the bundle."""
    return (
        any(fnmatchcase(name, pattern) for pattern in PACKED)
        and not any(fnmatchcase(name, pattern) for pattern in NOT_PACKED)
        and not hidden(name)
    )


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
