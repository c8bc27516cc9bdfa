"""The folder for a model hub: the bundle with its model card at the top, ready for `push_to_hf_hub` or `git push`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

ATTRIBUTES = "*.pt filter=lfs diff=lfs merge=lfs -text\n"
"""Weights go to large file storage; the hub refuses a larger file that does not."""


def write_hub_folder(folder: Path, members: Mapping[str, Path | bytes], card: str) -> None:
    """Write the hub's form of a bundle.

    Args:
        folder: a new folder.
        members: content of the zip, a file or bytes by the path below the bundle's root.
        card: model card with its YAML head; takes the place of the README.
    """
    for name, content in {**members, "README.md": card.encode(), ".gitattributes": ATTRIBUTES.encode()}.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            shutil.copyfile(content, target)
