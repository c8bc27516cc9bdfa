"""What the bundle says about itself in the files that leave it: name, version, intended use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

METADATA = Path(__file__).resolve().parents[2] / "configs/metadata.json"


@dataclass(frozen=True)
class BundleIdentity:
    """Name, version and intended use by ``configs/metadata.json``."""

    name: str
    version: str
    intended_use: str


@cache
def bundle_identity() -> BundleIdentity:
    """Read the metadata of this bundle."""
    content = json.loads(METADATA.read_text(encoding="utf-8"))
    return BundleIdentity(*(str(content[key]) for key in ("name", "version", "intended_use")))
