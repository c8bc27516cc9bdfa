"""A copy of the bundle with networks and weights that a test can afford, as a git checkout; and its release."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from config_compositions import ROOT
from monai.bundle import ConfigParser

from development.release.metadata import bundle_name
from development.standalone_configs import write_copies

PARTS = (
    "configs",
    "development",
    "docs",
    "scripts",
    "LICENSE",
    "README.md",
    "large_files.yml",
    "requirements.txt",
    ".gitignore",
)
OTHER_WEIGHTS = "models/other/model.pt"
"""Further weights, which a release may serve instead of packing them."""
SHAPE = [32, 32, 8]


def write_tiny_bundle(root: Path) -> Path:
    """Copy the bundle, shrink its networks, draw weights and commit it."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.png", "*.pt"))
        else:
            shutil.copy(ROOT / part, root / part)
    _shrink(root / "configs/inference.yaml")
    write_copies(root / "configs")
    metadata = read_json(root / "configs/metadata.json")
    for tensors in metadata["network_data_format"].values():
        for tensor in tensors.values():
            tensor["spatial_shape"] = SHAPE
    write_json(root / "configs/metadata.json", metadata)
    (root / OTHER_WEIGHTS).parent.mkdir(parents=True)
    torch.manual_seed(1)  # a draw by which organs win somewhere
    torch.save(network_of(root).state_dict(), root / "models/model.pt")
    torch.save({"weight": torch.rand(1000)}, root / OTHER_WEIGHTS)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    commit(root)
    return root


def copy_bundle(root: Path, target: Path) -> Path:
    """A copy to change; the large weights are linked, not copied: replace them, do not write into them."""
    shutil.copytree(root, target, ignore=shutil.ignore_patterns("model.pt", "__pycache__"))
    for path in root.glob("models/**/model.pt"):
        (target / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target / path.relative_to(root))
    return target


def network_of(root: Path) -> torch.nn.Module:
    """The network of a bundle's one-file config, with the initial weights of the present seed."""
    parser = ConfigParser()
    parser.read_config(str(root / "configs/inference.json"))
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    return network.eval()


def git(root: Path, *arguments: str) -> None:
    quick = ("-c", "core.compression=0", "-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", "-C", str(root), *quick, *arguments], check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "commit", "--quiet", "--message", "bundle")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _shrink(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config |= {"spacing": [12.0, 12.0, 24.0], "coarse_spacing": [12.0, 12.0, 24.0], "precision": "float32"}
    config["coarse_network"]["channels"] = [8, 8, 8, 8]
    config["query_planner"] |= {"patch_size": 32, "threshold": 0.05}  # untrained: every organ is likely everywhere
    config["encoder"]["name"], config["decoder"]["width"] = "resnet18", 16
    # Untrained coarse maps are the same everywhere: with them in the result, background wins.
    config["segmenter"]["attention_residual"], config["network_def"]["coarse_weight"] = False, 0.0
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


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
