"""A bundle folder with a tiny predictor: real configs with small numbers, and weights that were never trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from config_compositions import INFERENCE, ROOT
from monai.bundle import ConfigParser
from tiny_workflows import TINY_PREDICTOR

from scripts.inference.predictor import TwoStagePredictor
from scripts.runtime.composition import composed

METADATA = ROOT / "configs/metadata.json"
TINY: dict[str, Any] = {**TINY_PREDICTOR, "device": "cpu"}


@dataclass(frozen=True)
class TinyBundle:
    """Paths of a bundle, and the network that its weights belong to."""

    root: Path
    model: Path
    config: Path
    predictor: TwoStagePredictor
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes the inference config of the repository this bundle's."""
        return {**TINY, **self.overrides, "model_path": str(self.model)}


def write_config(path: Path, overrides: Mapping[str, Any]) -> None:
    """The inference config with other values, as one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {
        key: value for key, value in composed(str(ROOT / INFERENCE), **overrides).get().items() if key != "_meta_"
    }
    ConfigParser.export_config_file(config, str(path), indent=1)


def decide(predictor: TwoStagePredictor) -> None:
    """Make an untrained coarse stage sure of itself: it then finds every organ somewhere, and labels are no ties."""
    last = [parameter for parameter in predictor.coarse.network.parameters() if parameter.dim() > 1][-1]
    with torch.no_grad():
        last *= 100


def make_bundle(root: Path, **overrides: Any) -> TinyBundle:
    """Write config and weights to a folder."""
    settings = {**TINY, **overrides}
    write_config(root / "configs/inference.json", {**settings, "bundle_root": str(root)})
    torch.manual_seed(0)
    predictor = composed(str(ROOT / INFERENCE), **settings).get_parsed_content("network_def").eval()
    decide(predictor)
    (root / "models").mkdir()
    torch.save(predictor.state_dict(), root / "models/model.pt")
    return TinyBundle(root, root / "models/model.pt", root / "configs/inference.json", predictor, overrides)
