"""The whole predictor as one TorchScript file, with the metadata and the composed config in it.

    python -m scripts.export.torchscript --run_dir runs/mine --filepath runs/mine/model.ts

MONAI's ``ckpt_export`` does the same for one config file. It embeds overlays each by itself, and programs that read the
file (MONAI Deploy) look for one complete config called "inference": here the overlays are merged first.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
from monai.bundle import ConfigParser
from monai.data import save_net_with_metadata
from monai.networks import convert_to_torchscript

from scripts.files.result_files import claim_outputs
from scripts.inference.predictor import TwoStagePredictor, limited_to
from scripts.inference.weights import check_settings, load_weights, paths_of
from scripts.runtime.composition import check_ids, composed
from scripts.runtime.plain_errors import install_plain_errors

INFERENCE = "configs/inference.yaml"


def read_metadata(meta_file: str | Path, organs: Sequence[str]) -> dict[str, Any]:
    """Metadata of the bundle; ValueError for other organs, by which a program that reads the export would name them."""
    metadata: dict[str, Any] = ConfigParser.load_config_file(str(meta_file))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    wanted = {str(channel): name for channel, name in enumerate(["background", *organs])}
    if channels != wanted:
        differ = (
            f"{meta_file} has the output channels {list(channels.values())}, and the network {list(wanted.values())}"
        )
        raise ValueError(f"{differ}: give a copy with the channel_def of these organs as --meta_file.")
    return metadata


def export_torchscript(
    filepath: str = "models/model.ts",
    config_file: str | Sequence[str] = INFERENCE,
    meta_file: str = "configs/metadata.json",
    **overrides: Any,
) -> None:
    """Write the predictor, its metadata ("metadata.json") and its config ("inference.json") to one file.

    Do not rename the file (.ts) afterwards: PyTorch writes its name into it, and MONAI Deploy looks the configs up by
    it. Several config files are merged left to right; further values replace theirs by id, such as model_path.
    """
    check_ids(composed(config_file, overrides.get("run_dir")), overrides)
    parser = composed(config_file, **overrides)
    metadata = read_metadata(meta_file, parser.get_parsed_content("organs"))
    claim_export(filepath, config_file, parser)
    scripted = convert_to_torchscript(trained_predictor(parser))
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    target = Path(filepath)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        written = Path(folder) / target.name
        save_net_with_metadata(
            scripted,
            str(written),
            include_config_vals=False,
            append_timestamp=False,
            meta_values=metadata,
            more_extra_files={"inference.json": json.dumps(config).encode()},
        )
        os.replace(written, target)
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB")


def claim_export(filepath: str, config_file: str | Sequence[str], parser: ConfigParser) -> None:
    """Raise ValueError, before the work, if an export cannot be written or replaces anything."""
    configs = [config_file] if isinstance(config_file, str) else list(config_file)
    claim_outputs([filepath], [*configs, *paths_of([parser.get_parsed_content("model_path")])], new=True)


def trained_predictor(parser: ConfigParser) -> TwoStagePredictor:
    """The two-stage predictor of a composition with the weights of its `model_path`, on the CPU, for evaluation."""
    network = parser.get_parsed_content("network_def")
    if not isinstance(network, TwoStagePredictor):
        kind = type(network).__name__
        raise ValueError(f"network_def is a {kind}, not a TwoStagePredictor: leave baselines out of --config_file.")
    if parser["predictor"] != "@network" or not isinstance(path := parser.get_parsed_content("model_path"), str | Path):
        raise ValueError(f"{parser['method']} predicts with a part of its network, or several: export another run.")
    check_settings(network, path)
    load_weights(network, path)
    if "wanted_classes" in parser:
        limited_to(network, parser.get_parsed_content("wanted_classes"))
    return network.eval()


if __name__ == "__main__":
    install_plain_errors()
    fire.Fire(export_torchscript)
