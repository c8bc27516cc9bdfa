"""Checks of a bundle's network and workflows, with its own weights and with MONAI's own functions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_net_in_out

from development.phantom.dataset import write_phantom_dataset
from development.release.bundle_files import WEIGHTS
from development.release.file_checks import INFERENCE, TRAIN
from development.release.metadata import METADATA, read_metadata
from scripts.export.onnx_segmenter import example_queries
from scripts.inference.predictor import TwoStagePredictor
from scripts.inference.weights import load_weights

TRAINING_IDS = ("output_dir", "train::dataset::data", "train::handlers", "validate::evaluator", "validate::handlers",
                "validate::dataset", "validate::dataset::data")  # fmt: skip
"""What the zoo's guide for contributors asks for on top of MONAI's required properties."""
CPU = torch.device("cpu")
TOLERANCE = 1e-4
"""Largest difference of a class score, or of a logit of a query, between TorchScript and Python."""


def check_channels(root: Path) -> str:
    """The output channels are background and the organs of the config, by name and number."""
    names = ["background", *_parser(root)["organs"]]
    output = read_metadata(root)["network_data_format"]["outputs"]["pred"]
    found = output.get("channel_def")
    if found != {str(channel): name for channel, name in enumerate(names)} or output["num_channels"] != len(names):
        raise ValueError(f"{METADATA}: the output channels are {found}, the config's classes are {names}.")
    return f"{len(names)} channels"


def check_weights(root: Path) -> str:
    """The weights fit the network of the config that clients open alone, and every number in them is finite."""
    return f"{sum(value.numel() for value in _network(root).state_dict().values()):,} values"


def check_properties(root: Path) -> str:
    """Inference and training have the properties that clients ask for; built on a tiny data set made for it."""
    with tempfile.TemporaryDirectory() as folder:
        datalist = _tiny_dataset(folder, _parser(root)["organs"])
        missing = _missing(root, INFERENCE, "inference", datalist, folder)
        missing += _missing(root, TRAIN, "train", folder, folder)
    parser = ConfigParser()
    parser.read_config(str(root / TRAIN))
    missing += [name for name in TRAINING_IDS if name not in parser]
    if missing:
        raise ValueError(f"missing, or not referred to by their id: {', '.join(missing)}.")
    return "inference and train"


def check_net_in_out(root: Path) -> str:
    """The network takes and gives the tensors that the metadata describes."""
    read_metadata(root)
    verify_net_in_out("network_def", str(root / METADATA), str(root / INFERENCE), "cpu", bundle_root=str(root))
    return "network_def"


def check_torchscript(root: Path) -> str:
    """The network with its weights exports to TorchScript, loads again and gives the same scores."""
    tensor = read_metadata(root)["network_data_format"]["inputs"]["image"]
    low, high = tensor["value_range"]
    size = (1, tensor["num_channels"], *map(int, tensor["spatial_shape"]))
    volume = low + (high - low) * torch.rand(size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/verify_model.ts"
        weights, metadata, config = str(root / WEIGHTS), str(root / METADATA), str(root / INFERENCE)
        ckpt_export("network_def", path, weights, metadata, config, bundle_root=str(root))
        scripted = torch.jit.load(path, map_location=CPU).eval()
    network = _network(root).eval()
    pairs = [(scripted, network, volume)]
    if isinstance(network, TwoStagePredictor):  # noise may lead to no query
        pairs.append((scripted.segmenter, network.segmenter, example_queries(network, 4)))
    with torch.no_grad():
        found = [(one(given) - other(given)).abs().max() for one, other, given in pairs]
    difference = float(torch.stack([value.float() for value in found]).max())  # not a number, if one is
    if not difference <= TOLERANCE:
        raise ValueError(f"scores of TorchScript and Python differ by {difference:.2g}, allowed {TOLERANCE:g}.")
    return f"largest difference of a score {difference:.2g}"


def _parser(root: Path) -> ConfigParser:
    """The inference config that clients open alone."""
    parser = ConfigParser()
    parser.read_config(str(root / INFERENCE))
    return parser


def _network(root: Path) -> torch.nn.Module:
    """The network of the inference config with the bundle's weights."""
    network: torch.nn.Module = _parser(root).get_parsed_content("network_def")
    load_weights(network, root / WEIGHTS)
    return network


def _tiny_dataset(folder: str, organs: Sequence[str]) -> str:
    """Write a few synthetic scans whose labels are called after the bundle's organs; return the dataset.json."""
    path = Path(write_phantom_dataset(folder, 2, 1, 1, 0, (9, 10), (10, 12)))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["labels"] = {str(value): name for value, name in enumerate(["background", *organs])}
    for case in [*content["training"], *content["validation"]]:
        case.pop("annotated")  # names the organs of the synthetic abdomen
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def _missing(root: Path, config: str, kind: str, dataset: str, output: str) -> list[str]:
    """Properties that a workflow lacks."""
    read_metadata(root)
    files = {"config_file": str(root / config), "meta_file": str(root / METADATA), "bundle_root": str(root)}
    workflow = ConfigWorkflow(
        **files, workflow_type=kind, logging_file=False, dataset_dir=dataset, output_dir=output, device=CPU
    )
    workflow.initialize()
    return [f"{kind} {name}" for name in workflow.check_properties() or []]
