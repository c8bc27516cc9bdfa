"""A complete bundle folder with tiny settings, for clients that open a folder and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config_compositions import ROOT
from monai.bundle import ConfigParser

from development.standalone_configs import TWINS


def write_tiny_bundle(folder: Path, weights: Path, settings: Mapping[str, Any]) -> Path:
    """Copy the bundle, with settings in place of those of its one-file configs, and weights made with these."""
    (folder / "models").mkdir(parents=True)
    shutil.copy2(weights, folder / "models" / "model.pt")
    shutil.copy2(ROOT / "LICENSE", folder)
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "configs").mkdir()
    shutil.copy2(ROOT / "configs/logging.conf", folder / "configs")
    metadata = json.loads((ROOT / "configs/metadata.json").read_text(encoding="utf-8"))
    if "organs" in settings:  # clients read the names from here
        channels = dict(enumerate(["background", *settings["organs"]]))
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    (folder / "configs/metadata.json").write_text(json.dumps(metadata, indent=1), encoding="utf-8")
    for twin in TWINS:
        parser = ConfigParser(json.loads((ROOT / "configs" / twin).read_text(encoding="utf-8")))
        parser.update({key: value for key, value in settings.items() if key.split("::")[0] in parser.get()})
        content = json.dumps(parser.get(), indent=1)
        (folder / "configs" / twin).write_text(content, encoding="utf-8")
    return folder
