"""What each baseline costs: parameters, multiply-adds and images, read from its config.

    python -m development.study.baseline_costs                            # the default budget
    python -m development.study.baseline_costs configs/data/abdomen.yaml  # with overlays below the baselines

An image is one patch of a query stage; of a 3D network of someone else, one slice of its patches. Multiply-adds are
those of convolutions, matrix products and attention, counted by PyTorch; of one image, forward; of the training,
forward too, for all stages (a backward pass costs about twice as much again).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from development.baselines.volumes import patch_side
from scripts.evaluation.score_tables import markdown_table
from scripts.runtime.plain_errors import install_plain_errors

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NO_ROW = {"coarse_alone", "coarse_and_slice"}
"""Baselines that cost what others cost: the coarse stage, and that and the slice baseline."""

COARSE_SETTINGS = ("folds", "epochs", "fold_epochs", "epoch_length", "batch_size", "patch_size")


@dataclass(frozen=True)
class Budget:
    """Costs of one baseline.

    The parameters are those of the network that predicts. The multiply-adds (`macs`) are those of one image in the
    segmentation stage and of the whole training, forward. Coarse patches are the 3D patches that the coarse networks
    are trained with, folds included; contrastive images are the views of the contrastive stage.
    """

    method: str
    parameters: int
    image_macs: float
    coarse_patches: int
    contrastive_images: int
    segmentation_images: int
    training_macs: float

    @property
    def images(self) -> int:
        """Images of both stages."""
        return self.contrastive_images + self.segmentation_images


def multiply_adds(network: nn.Module, shape: Sequence[int]) -> float:
    """Multiply-adds of one forward pass; nothing is computed, only shapes are followed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta").eval()(torch.zeros(list(shape), device="meta"))
    return float(counter.get_total_flops()) / 2


def budget_of(overlays: Sequence[str | Path], trained_alone: bool = True) -> Budget:
    """Costs of the training that these overlays on train.yaml make.

    Give `trained_alone=False` for a part of a trained predictor that is scored by itself, the coarse stage.
    """
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), *map(str, overlays)])
    steps = str(parser["training"])
    get = parser.get_parsed_content
    network = get("coarse_segmenter") if not trained_alone else get("network_def")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size, channels = int(get("query_planner::patch_size")), int(get("encoder::in_channels"))

    coarse_patches, coarse_macs = _coarse_stage(parser) if "@coarse::stage" in steps else (0, 0.0)
    contrastive_images, contrastive_macs = 0, 0.0
    if trained_alone and "@contrastive::trainer" in steps:
        factors = ["epochs", "epoch_length", "batch_size", "dataset::views"]
        contrastive_images = prod(int(get(f"contrastive::{factor}")) for factor in factors)
        contrastive_macs = contrastive_images * multiply_adds(get("contrastive::network"), [1, channels, size, size])
    segmentation_images, image_macs = 0, 0.0
    if trained_alone and "@train::trainer" in steps:
        factors = ["total_epochs", "epoch_length", "dataset::batch_size"]
        segmentation_images = prod(int(get(f"train::{factor}")) for factor in factors)
        image_macs = _image_macs(parser, size, channels)
    return Budget(
        method=str(parser["method"]),
        parameters=parameters,
        image_macs=image_macs,
        coarse_patches=coarse_patches,
        contrastive_images=contrastive_images,
        segmentation_images=segmentation_images,
        training_macs=coarse_macs + contrastive_macs + segmentation_images * image_macs,
    )


def _coarse_stage(parser: ConfigParser) -> tuple[int, float]:
    """Patches of all coarse networks, folds included, and their multiply-adds."""
    get = parser.get_parsed_content
    stage: dict[str, Any] = {key: get(f"coarse::stage::{key}") for key in COARSE_SETTINGS}
    folds = stage["folds"] if stage["folds"] > 1 else 0
    epochs = stage["epochs"] + folds * (stage["fold_epochs"] or stage["epochs"])
    patches = epochs * stage["epoch_length"] * stage["batch_size"]
    return patches, patches * multiply_adds(get("coarse_network"), [1, get("image_channels"), *stage["patch_size"]])


def _image_macs(parser: ConfigParser, size: int, channels: int) -> float:
    """Multiply-adds of one image in the segmentation stage's network."""
    network = parser.get_parsed_content("train::network")
    if parser["train::network"] != "@coarse_network":
        return multiply_adds(network, [1, channels, size, size])
    depth = 32  # a multiple of what every 3D network needs, and the depth of its training patches
    side = patch_side(size)
    return multiply_adds(network, [1, 1, side, side, depth]) / depth


def baseline_budgets(below: Sequence[str | Path] = ()) -> list[Budget]:
    """The main recipe, then every config of configs/baselines that has costs of its own, on the given overlays."""
    rows = [budget_of(below)]
    for path in sorted(file for file in (CONFIGS / "baselines").glob("*.yaml") if file.stem not in NO_ROW):
        content = ConfigParser.load_config_file(str(path))
        rows.append(budget_of([*below, path], trained_alone="predictor" not in content))
    return rows


def budget_table(budgets: Sequence[Budget]) -> str:
    """Budgets as a Markdown table."""
    titles = [
        "method",
        "parameters, M",
        "multiply-adds of an image, G",
        "coarse patches (3D)",
        "contrastive images",
        "segmentation images",
        "images",
        "multiply-adds of the training, T",
    ]
    body = []
    for row in budgets:
        counts = [row.coarse_patches, row.contrastive_images, row.segmentation_images, row.images]
        cells = [row.method, f"{row.parameters / 1e6:.1f}", f"{row.image_macs / 1e9:.2f}"]
        cells += [f"{count:,}" for count in counts] + [f"{row.training_macs / 1e12:,.0f}"]
        body.append(cells)
    return markdown_table(titles, body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study.baseline_costs", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "overlays", nargs="*", help="configs below the baselines, for example configs/data/abdomen.yaml"
    )
    overlays = parser.parse_args(arguments).overlays
    missing = [name for name in overlays if not Path(name).is_file()]
    if missing:
        parser.error(f"no such config: {', '.join(missing)}")
    logging.disable(logging.INFO)
    print(budget_table(baseline_budgets(overlays)))


if __name__ == "__main__":
    install_plain_errors()
    main()
