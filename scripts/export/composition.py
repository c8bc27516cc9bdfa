"""The network to export, and where to."""

from __future__ import annotations

from collections.abc import Sequence

from monai.bundle import ConfigParser

from scripts.files.result_files import claim_outputs
from scripts.inference.ensemble import paths_of
from scripts.inference.predictor import TwoStagePredictor
from scripts.inference.weights import load_weights

TRUNK = "configs/inference.yaml"


def claim_export(filepath: str, config_file: str | Sequence[str], parser: ConfigParser) -> None:
    """Make sure, before the work, that an export can be written and replaces nothing.

    Raises:
        ValueError: it cannot, or it does.
    """
    configs = [config_file] if isinstance(config_file, str) else list(config_file)
    claim_outputs([filepath], [*configs, *paths_of([parser.get_parsed_content("model_path")])], new=True)


def trained_predictor(parser: ConfigParser) -> TwoStagePredictor:
    """The two-stage predictor of a composition with the weights of its `model_path`, on the CPU, for evaluation.

    Raises:
        FileNotFoundError, ValueError: there are no such weights, or they do not fit.
    """
    network = parser.get_parsed_content("network_def")
    if not isinstance(network, TwoStagePredictor):
        raise ValueError(
            f"network_def is a {type(network).__name__}, and only a TwoStagePredictor is exported: leave baseline "
            "overlays out of --config_file."
        )
    load_weights(network, parser.get_parsed_content("model_path"))
    return network.eval()
