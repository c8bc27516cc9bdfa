"""Options of the contrastive stage: what they hand on to the segmentation stage, and what a run remembers of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from config_compositions import ROOT, TRUNK, composed
from ignite.engine import Engine
from monai.bundle import ConfigParser

from scripts.queries.attention import AttentionPerturbation
from scripts.training.resume import Resume
from scripts.training.run_folder import flat_settings

TRAIN = "configs/train.yaml"


def built(overlay: str, seed: int = 0) -> ConfigParser:
    """The networks of an overlay, small, with other initial weights for another seed."""
    torch.manual_seed(seed)
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in (TRUNK, TRAIN, overlay)])
    parser["encoder::name"], parser["contrastive::network::head::hidden"] = "resnet18", 16
    parser.parse()
    return parser


def contrasted(parser: ConfigParser, path: Path, epochs: int) -> torch.nn.Module:
    """The contrastive network, trained for so many steps, resumed and kept as the config's trainer does it."""
    network: torch.nn.Module = parser.get_parsed_content("contrastive::network")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    channels = parser.get_parsed_content("encoder").in_channels

    def step(engine: Engine, batch: Any) -> None:
        optimizer.zero_grad()
        network(torch.rand(4, channels, 32, 32)).square()[:, 0].sum().backward()
        optimizer.step()

    engine = Engine(step)
    Resume(str(path), {"network": network, "optimizer": optimizer}).attach(engine)
    engine.run([0], max_epochs=epochs)
    return network


def test_the_decoder_that_contrast_trains_is_the_one_that_segments_after_a_resumption_too(tmp_path: Path) -> None:
    overlay = "configs/baselines/decoder_contrast.yaml"
    first, second = built(overlay), built(overlay, seed=1)
    segmenter = first.get_parsed_content("segmenter")
    before = {name: value.clone() for name, value in segmenter.decoder.state_dict().items()}
    network = contrasted(first, tmp_path / "contrastive.pt", epochs=1)
    assert network.decoder is segmenter.decoder and network.encoder is segmenter.encoder
    trained = segmenter.state_dict()
    changed = {name for name, value in segmenter.decoder.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} >= {"aspp", "reduce_context", "join_first", "join_stem"}
    assert "output.weight" not in changed

    # The stage is done: the second process only loads the checkpoint, and segments with what is in it.
    contrasted(second, tmp_path / "contrastive.pt", epochs=1)
    resumed = second.get_parsed_content("segmenter").state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in trained.items())


def test_the_default_keeps_the_decoder_out_of_the_contrastive_checkpoint() -> None:
    network = built("configs/baselines/fine_tuned.yaml").get_parsed_content("contrastive::network")
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "head"}


def remembered(overlay: str) -> dict[str, Any]:
    """What a run's settings.json has of the contrastive stage."""
    parser = built(overlay)
    values = parser["run_folder::settings::contrastive"]
    wanted = {key: parser.get_parsed_content(f"run_folder::settings::contrastive::{key}") for key in values}
    return flat_settings(wanted)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("decoder_contrast", {"pooling": "decoder"}),
        ("background_contrast", {"background_share": 0.25}),
        ("same_image_contrast", {"cases_per_batch": 8}),
        (
            "weak_attention_contrast",
            {f"perturbation.{key}": value for key, value in vars(AttentionPerturbation(4.0, 3, 0.2, 0.3)).items()},
        ),
    ],
)
def test_a_run_folder_remembers_each_idea(name: str, changes: dict[str, Any]) -> None:
    plain, changed = remembered("configs/baselines/fine_tuned.yaml"), remembered(f"configs/baselines/{name}.yaml")
    assert changes and changed == {**plain, **changes} and changed != plain


def test_every_idea_is_off_by_default() -> None:
    contrastive = composed((TRUNK, TRAIN))["contrastive"]
    assert (contrastive["pooling"], contrastive["positives"]) == ("patch", "organ_phase")
    assert (contrastive["dataset"]["background_share"], contrastive["dataset"]["cases_per_batch"]) == (0.0, None)
    assert contrastive["dataset"]["perturbation"] == "@perturbation"
