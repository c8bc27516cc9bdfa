"""Layouts: folders that are read as a data set although they hold no dataset.json.

Each module in this folder is one layout; a new one is a new file here, and no other file changes. It has two functions:

- ``is_layout(folder: str) -> bool``: whether the folder looks like this layout, complete or not; reads no scan.
- ``datalist(folder: str) -> dict``: the content of the dataset.json that the folder stands for, with ``labels`` (value
  of the label files -> organ) and a list of ``{"image": ..., "label": ...}`` per split, paths relative to the folder.
  Raises ValueError or FileNotFoundError with the remedy where the folder is incomplete.
"""

import importlib
import pkgutil
from types import ModuleType


def layout_of(folder: str) -> ModuleType | None:
    """The layout that a folder has, in the order of the modules' names; None if it has none."""
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{__name__}.{found.name}")
        if module.is_layout(folder):
            return module
    return None
