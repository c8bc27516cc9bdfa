"""Options of the contrastive stage: what they hand on to the segmentation stage, and what a run remembers of them."""

from __future__ import annotations

import pytest
import torch
from config_compositions import ROOT, TRUNK, composed
from monai.bundle import ConfigParser

TRAIN = "configs/train.yaml"


def built(overlay: str, seed: int = 0) -> ConfigParser:
    """The networks of an overlay, small, with other initial weights for another seed."""
    torch.manual_seed(seed)
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in (TRUNK, TRAIN, overlay)])
    parser["encoder::name"], parser["contrastive::network::head::hidden"] = "resnet18", 16
    parser.parse()
    return parser


def test_the_default_keeps_the_decoder_out_of_the_contrastive_checkpoint() -> None:
    network = built("configs/baselines/fine_tuned.yaml").get_parsed_content("contrastive::network")
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "head"}


@pytest.mark.parametrize("name", ["background_contrast", "same_image_contrast"])
def test_a_run_folder_remembers_each_idea(name: str) -> None:
    parser = built(f"configs/baselines/{name}.yaml")
    assert parser.get_parsed_content("run_folder::settings::baseline") == parser["method"] != "two-stage"


def test_every_idea_is_off_by_default() -> None:
    contrastive = composed((TRUNK, TRAIN))["contrastive"]
    assert (contrastive["pooling"], contrastive["positives"]) == ("patch", "organ_phase")
    assert contrastive["dataset"]["_target_"] == "scripts.queries.batches.QueryBatches"
    assert contrastive["dataset"]["perturbation"] == "@perturbation"
