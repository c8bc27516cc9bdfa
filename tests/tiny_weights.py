"""Weights of a tiny, untrained two-stage predictor that labels much of any scan, and what a bad file may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from config_compositions import ROOT
from tiny_workflows import TINY_PREDICTOR, workflow

SETTINGS: dict[str, Any] = {
    **TINY_PREDICTOR,
    "organs": ["spleen", "liver", "aorta"],
    "network_def::coarse_weight": 0.4,
}


def write_weights(path: Path, **changes: Any) -> str:
    """Write random weights for `SETTINGS` with changes and return their path."""
    untrained = workflow("inference", **SETTINGS | changes)
    untrained.initialize()
    torch.manual_seed(0)
    network = untrained.parser.get_parsed_content("network")
    with torch.no_grad():
        for parameter in network.coarse.parameters():
            parameter.mul_(2.0)  # sure of what it sees, unlike most random weights
    torch.save(network.state_dict(), path)
    return str(path)


def write_trained(folder: Path, **changes: Any) -> tuple[str, list[str]]:
    """Write the weights, and the config that they were made with; return their path and the files of the config."""
    content = {name: value for name, value in (SETTINGS | changes).items() if name != "device"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return write_weights(folder / "model.pt", **changes), [str(ROOT / "configs/train.yaml"), str(folder / "tiny.yaml")]


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
