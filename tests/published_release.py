"""A release on a web server, as the tests look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiny_checkout import read_json

from development.release.metadata import bundle_name


@dataclass(frozen=True)
class Published:
    """A release that was built and lies on a web server."""

    root: Path
    folder: Path
    base_url: str

    @property
    def name(self) -> str:
        return bundle_name(read_json(self.root / "configs/metadata.json"))

    @property
    def zip(self) -> Path:
        return self.folder / "upload" / f"{self.folder.name}.zip"

    @property
    def zip_url(self) -> str:
        return f"{self.base_url}/{self.zip.name}"

    @property
    def hub(self) -> Path:
        return self.folder / "hub" / self.name
