"""Loads the predictor's weights; an error says why they do not fit."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.inference.predictor import decode_names
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.run_folder import check_weights

logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a state dict into a predictor.

    FileNotFoundError: no such file. ValueError: damaged, not finite, more than weights, of other organs, network, run.
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
    if broken := [key for key in own if not bool(torch.isfinite(state[key]).all())]:
        raise ValueError(
            f"the weights {path} hold values that are not finite in {len(broken)} tensors ({', '.join(broken[:3])}): "
            "copy or download the file again, or take an earlier checkpoint."
        )
    network.load_state_dict(state)


def with_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """The network itself, with the weights loaded: for configs of which a client only takes parts."""
    load_weights(network, path)
    return network


class WeightsLoader:
    """Handler: load a predictor's weights when the engine starts; an ensemble has a state dict file for each member."""

    def __init__(self, path: str | Path | Sequence[str], network: nn.Module) -> None:
        self.paths, self.network = paths_of(path), network

    def attach(self, engine: Engine) -> None:
        """Register with an engine."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Engine | None = None) -> None:
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


def paths_of(path: str | Path | Sequence[str]) -> list[str]:
    """One path or several, as a list."""
    return [str(path)] if isinstance(path, str | Path) else [str(one) for one in path]


class FoldEnsemble(nn.Module):
    """As many copies of an untrained predictor as there are files of weights, one ``model.pt`` of each fold.

    :class:`WeightsLoader` loads them. forward: [batch, 1, x, y, z] in HU on the working grid -> mean class scores
    [batch, 1 + organs, x, y, z]. ValueError for no path, or one path twice, which would give that fold two votes.
    """

    def __init__(self, predictor: nn.Module, paths: str | Sequence[str], device: torch.device | str = "cpu") -> None:
        super().__init__()
        given = paths_of(paths)
        if not given or len(set(given)) < len(given):
            raise ValueError(
                f"model_path of an ensemble is {given}; expected the model.pt of every fold, each once, such as "
                "--model_path \"['runs/fold0/model.pt','runs/fold1/model.pt']\"."
            )
        self.members = nn.ModuleList([predictor, *(copy.deepcopy(predictor) for _ in given[1:])]).to(device)

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        total: Tensor = self.members[0](volume).float()  # a sum of halves would lose digits
        for member in list(self.members)[1:]:
            total = total + member(volume)
        return total / len(self.members)
