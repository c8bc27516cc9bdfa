"""Loading the predictor's weights, with a sentence where they do not fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from scripts.inference.ensemble import FoldEnsemble, paths_of
from scripts.inference.predictor import decode_names
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.run_folder import check_weights

logger = logging.getLogger(__name__)


def load_weights(network: torch.nn.Module, path: str | Path) -> None:
    """Load a state dict into a predictor.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, not finite, more than weights, made for other organs, another network or by another run.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"no weights at {path}: train first (run training), download them (monai.bundle download), or name "
            "another file with --model_path."
        )
    check_weights(Path(path))
    state = load_checkpoint(path)
    own = network.state_dict()
    if "organ_names" in own and "organ_names" in state:
        wanted, found = decode_names(own["organ_names"]), decode_names(state["organ_names"])
        if wanted != found:
            raise ValueError(
                f"the weights {path} are for the organs {found}, the config lists {wanted}: use the config they were "
                "trained with, or train weights for these organs."
            )
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or unknown or reshaped:
        examples = [f"no {key}" for key in missing[:2]] + [f"an unknown {key}" for key in unknown[:2]]
        examples += [f"{key} is {list(state[key].shape)}, expected {list(own[key].shape)}" for key in reshaped[:2]]
        raise ValueError(
            f"the weights {path} are of another network: {len(missing)} tensors are missing, {len(unknown)} unknown, "
            f"{len(reshaped)} of another shape ({'; '.join(examples)}). Check encoder, decoder, coarse_network and "
            "adjacent_slices."
        )
    broken = [key for key in own if not bool(torch.isfinite(state[key]).all())]
    if broken:
        raise ValueError(
            f"the weights {path} hold values that are not finite in {len(broken)} tensors ({', '.join(broken[:3])}): "
            "copy or download the file again, or take an earlier checkpoint."
        )
    network.load_state_dict(state)


def with_weights(network: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """The network itself, with the weights loaded: for configs of which a client only takes parts."""
    load_weights(network, path)
    return network


class WeightsLoader:
    """Handler: load the predictor's weights when the engine starts.

    Args:
        path: state dict file; of an ensemble, one for each member.
        network: the predictor.
    """

    def __init__(self, path: str | Path | Sequence[str], network: torch.nn.Module) -> None:
        self.paths, self.network = paths_of(path), network

    def attach(self, engine: Engine) -> None:
        """Register with an engine."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Engine) -> None:
        """Load the weights."""
        networks = list(self.network.members) if isinstance(self.network, FoldEnsemble) else [self.network]
        if len(networks) != len(self.paths):
            raise ValueError(
                f"{len(self.paths)} files of weights were given for {len(networks)} networks: "
                f"{', '.join(self.paths)}. Name one model.pt, or add configs/variants/ensemble.yaml for several."
            )
        for network, path in zip(networks, self.paths, strict=True):
            load_weights(network, path)
            logger.info("weights: %s", path)
