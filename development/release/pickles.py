"""Pickles run code in whoever opens them: a release holds none but weights, and those load as weights only."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from scripts.runtime.resume import load_checkpoint

WEIGHT_SUFFIX = ".pt"
PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".joblib", ".dill", ".pth", ".ckpt", ".ts", ".npy", ".npz", ".mar", ".bin"}
"""Formats that hold pickles or programs, or can."""
PICKLE_PROTOCOLS = {bytes([0x80, protocol]) for protocol in range(2, 6)}


def refuse_unexpected_pickles(files: Mapping[str, Path]) -> None:
    """Refuse files that hold pickles, except for weights that load as tensors and plain values only.

    Args:
        files: files by the name to report them under.

    Raises:
        ValueError: the first such file, with the reason.
    """
    for name, path in files.items():
        if PurePosixPath(name).suffix.lower() == WEIGHT_SUFFIX:
            load_checkpoint(path)
        elif holds_pickle(name, path):
            raise ValueError(
                f"{name} is a pickle or may hold one, and opening a pickle runs what is in it. A release holds weights "
                f"(*{WEIGHT_SUFFIX}), text and pictures: remove it."
            )


def holds_pickle(name: str, path: Path) -> bool:
    """Whether a file is a pickle or a container of one, by its name or its first bytes."""
    if PurePosixPath(name).suffix.lower() in PICKLE_SUFFIXES:
        return True
    with path.open("rb") as file:
        if file.read(2) in PICKLE_PROTOCOLS:
            return True
    if zipfile.is_zipfile(path):  # torch.save and TorchScript, whatever the file is called
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(member).suffix in PICKLE_SUFFIXES for member in archive.namelist())
    return False
