"""Loads the predictor's weights; an error says why they do not fit."""

import copy
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from torch import Tensor, nn

from scripts.inference.predictor import Predictor, TwoStagePredictor, decode_names
from scripts.runtime.composition import trained_config
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.run_folder import check_weights

logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a state dict into a predictor; returns the predictor, for configs of which a client only takes parts.

    FileNotFoundError: no such file. ValueError: damaged, not finite, more than weights, of other organs, network, run.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: train or download them, or give another --model_path.")
    check_weights(Path(path))
    state = load_checkpoint(path)
    own = network.state_dict()
    if "organ_names" in own and "organ_names" in state:
        wanted, found = decode_names(own["organ_names"]), decode_names(state["organ_names"])
        if wanted != found:
            differ = f"the weights {path} are for the organs {found}, the config lists {wanted}"
            raise ValueError(f"{differ}: use the config they were trained with, or train weights for these organs.")
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or unknown or reshaped:
        examples = [f"no {key}" for key in missing[:2]] + [f"an unknown {key}" for key in unknown[:2]]
        examples += [f"{key} is {list(state[key].shape)}, expected {list(own[key].shape)}" for key in reshaped[:2]]
        differ = f"{len(missing)} tensors are missing, {len(unknown)} unknown, {len(reshaped)} of another shape"
        said = f"the weights {path} are of another network: {differ} ({'; '.join(examples)})"
        raise ValueError(f"{said}. Check encoder, decoder, coarse_network and adjacent_slices.")
    if broken := [key for key in own if not bool(torch.isfinite(state[key]).all())]:
        broken_ones = f"{len(broken)} tensors ({', '.join(broken[:3])})"
        raise ValueError(f"the weights {path} hold values that are not finite in {broken_ones}: take another file.")
    network.load_state_dict(state)
    return network


def check_settings(network: nn.Module, path: str | Path) -> None:
    """Raise ValueError for weights in the folder of a training whose window or spacing is not that of the network."""
    folder, own = Path(path).parent, dict[str, list[float]]()
    with suppress(ValueError, FileNotFoundError):  # no folder of a training
        part = ConfigParser(trained_config(str(folder))).get_parsed_content
        if isinstance(network, Predictor):
            own["window"] = [network.lower, network.upper]
        if isinstance(network, TwoStagePredictor):
            own["spacing"] = network.coarse.get_buffer("spacing").tolist()
    for name, ours in own.items():
        if not np.allclose(ours, part(name), rtol=1e-6):
            differ = f"the weights {path} were trained with {name} {part(name)}, the config has {np.round(ours, 4)}"
            raise ValueError(f"{differ}: take the settings of the training with --run_dir {folder}.")


class WeightsLoader:
    """Handler: load a predictor's weights when the engine starts; an ensemble has a state dict file for each member."""

    def __init__(self, path: str | Path | Sequence[str], network: nn.Module) -> None:
        self.paths, self.network = network.paths if isinstance(network, Ensemble) else paths_of(path), network

    def attach(self, engine: Engine) -> None:
        """Register with an engine."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Engine | None = None) -> None:
        """Load the weights."""
        networks = list(self.network.members) if isinstance(self.network, Ensemble) else [self.network]
        if len(networks) != len(self.paths):
            given = f"{len(self.paths)} files of weights were given for {len(networks)} networks"
            remedy = "Name one model.pt, or add configs/variants/ensemble.yaml for several"
            raise ValueError(f"{given}: {', '.join(self.paths)}. {remedy}.")
        for network, path in zip(networks, self.paths, strict=True):
            check_settings(network, path)
            load_weights(network, path)
            logger.info("weights: %s", path)


def paths_of(path: str | Path | Sequence[str]) -> list[str]:
    """One path or several, as a list."""
    return [str(path)] if isinstance(path, str | Path) else [str(one) for one in path]


class Ensemble(nn.Module):
    """Untrained predictors for several weights: a copy of `predictor` for each file, the network of each training.

    A path is a ``model.pt``, or the folder of a training, which may be of another network (another baseline, another
    recipe) on the same working grid of `spacing` in mm. :class:`WeightsLoader` loads the weights. forward: [batch, 1,
    x, y, z] in HU on the working grid -> mean class scores [batch, 1 + organs, x, y, z]. ValueError for no path, one
    twice, which would give it two votes, and a training for another grid, other organs or images.
    """

    def __init__(
        self,
        predictor: nn.Module,
        paths: str | Sequence[str],
        device: torch.device | str = "cpu",
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        given = paths_of(paths)
        self.paths = [str(Path(one) / "model.pt" if Path(one).is_dir() else one) for one in given]
        if not given or len({Path(path).resolve() for path in self.paths}) < len(given):
            raise ValueError(f"model_path of an ensemble is {given}; expected the model.pt of every fold, each once.")
        self.members = nn.ModuleList(
            network_of(path, predictor, spacing) if Path(path).is_dir() else copy.deepcopy(predictor) for path in given
        ).to(device)

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        total: Tensor = self.members[0](volume).to(torch.float32, copy=True)  # a sum of halves would lose digits
        for member in list(self.members)[1:]:
            total += member(volume)
        return total.div_(len(self.members))


def network_of(run_dir: str, beside: nn.Module, spacing: Sequence[float] | None = None) -> nn.Module:
    """The untrained network of a training; ValueError unless organs, images and working grid are those of `beside`."""
    config = trained_config(run_dir)
    if config["predictor"] != "@network":
        raise ValueError(f"{run_dir} ({config['method']}) predicts with a part of its network: leave it out.")
    part = ConfigParser(config).get_parsed_content
    organs = decode_names(beside.organ_names)  # type: ignore[arg-type]
    wanted = {"organs": organs, "image_channels": beside.image_channels, "spacing": spacing}
    for name, ours in wanted.items():
        if ours is not None and part(name) != ours:
            raise ValueError(f"{run_dir} was trained with {name} {part(name)}, the others with {ours}: leave it out.")
    return part("network_def")  # type: ignore[no-any-return]
