"""Options of the contrastive stage: what they hand on to the segmentation stage."""

from __future__ import annotations

import torch
from config_compositions import ROOT, composed
from monai.bundle import ConfigParser

TRAIN = "configs/train.yaml"


def built(overlay: str, seed: int = 0) -> ConfigParser:
    """The networks of an overlay, small, with other initial weights for another seed."""
    torch.manual_seed(seed)
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in (TRAIN, overlay)])
    parser["encoder::name"], parser["contrastive::network::head::hidden"] = "resnet18", 16
    parser.parse()
    return parser


def test_the_default_keeps_the_decoder_out_of_the_contrastive_checkpoint() -> None:
    network = built("configs/baselines/fine_tuned.yaml").get_parsed_content("contrastive::network")
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "head"}


def test_every_idea_is_off_by_default() -> None:
    contrastive = composed((TRAIN,))["contrastive"]
    assert (contrastive["pooling"], contrastive["positives"]) == ("patch", "organ_phase")
    assert contrastive["dataset"]["_target_"] == "scripts.queries.batches.QueryBatches"
    assert contrastive["dataset"]["perturbation"] == "@perturbation"
