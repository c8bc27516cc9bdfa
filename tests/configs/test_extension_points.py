"""A newcomer's encoder, coarse network, loss and baseline: one new module and one overlay each, and no file edited."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_workflows import EVALUATE, TRAIN, run, weights, workflow

ENCODER = """
from torch import nn
from scripts.networks.encoder import QueryEncoder


class PlainEncoder(QueryEncoder):
    def __init__(self, in_channels, width):
        super().__init__(in_channels, [width, width, 2 * width], strides=[2, 4, 8])
        self.fine = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)

    def forward(self, queries):
        fine = self.fine(queries).relu()
        middle = self.middle(fine).relu()
        return [fine, middle, self.coarse(middle).relu()]
"""
ENCODER_OVERLAY = """
encoder:
  _target_: new_encoder.PlainEncoder
  in_channels: '$(2 * @adjacent_slices + 1) * @image_channels + 1'
  width: 8
"""
COARSE = """
from torch import nn


class PlainNetwork(nn.Sequential):
    def __init__(self, out_channels):
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, out_channels, 1))
"""
COARSE_OVERLAY = """
coarse_network: {_target_: new_coarse.PlainNetwork, out_channels: '$1 + len(@organs)'}
coarse_segmenter::multiple: 1
"""
LOSS = '''
from torch import nn

USED = []


class BrierLoss(nn.Module):
    """Of logits and labels [query, 1, x, y]."""

    def forward(self, logits, label):
        USED.append(len(logits))
        return (logits.sigmoid() - label.float()).square().mean()
'''
LOSS_OVERLAY = """
train::query_loss::loss: {_target_: new_loss.BrierLoss}
"""
BASELINE = '''
from scripts.inference.predictor import Predictor
from scripts.queries.batches import QueryBatches

DRAWN = []


class OneOrganBatches(QueryBatches):
    """Every batch is about one organ."""

    def _draw(self, generator):
        queries = super()._draw(generator)
        drawn = [queries[0]] * len(queries)
        DRAWN.append({query.organ for query in drawn})
        return drawn


class BrightPredictor(Predictor):
    """Whatever is bright is the first organ."""

    def __init__(self, organs, window, segmenter):
        super().__init__(organs, window)
        self.organs, self.segmenter = len(organs), segmenter

    def scores(self, image):
        scores = image.new_zeros(1 + self.organs, *image.shape[1:])
        scores[0], scores[1] = 1 - image[0], image[0]
        return scores
'''
BASELINE_OVERLAY = """
method: bright
network_def: {_target_: new_baseline.BrightPredictor, organs: '@organs', window: '@window', segmenter: '@segmenter'}
+train::dataset: {_target_: new_baseline.OneOrganBatches}
training: ['@prepared', $@coarse::stage.run(), $@train::trainer.run()]
"""


@pytest.fixture
def trained_with(training_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module and an overlay into a new folder, train all stages for an epoch, and score the result."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def train(name: str, module: str, overlay: str, drop: tuple[str, ...] = ()) -> Any:
        (tmp_path / f"{name}.py").write_text(module, encoding="utf-8")
        path, folder = tmp_path / f"{name}.yaml", tmp_path / "run"
        path.write_text(overlay, encoding="utf-8")
        epochs = {f"{stage}::epochs": 1 for stage in ("coarse::stage", "contrastive", "train")}
        settings = {**training_settings, **epochs, "coarse::stage::fold_epochs": 1}
        settings = {key: value for key, value in settings.items() if key not in drop}
        run("training", TRAIN, str(path), output_dir=str(folder), **settings)
        paths = {"run_dir": str(folder), "output_dir": str(tmp_path / "scores")}
        run("evaluate", EVALUATE, dataset_dir=settings["dataset_dir"], device=settings["device"], **paths)
        assert (tmp_path / "scores/scores.csv").is_file()
        return (
            importlib.import_module(name),
            weights(folder),
            yaml.safe_load((folder / "config.yaml").read_text("utf-8")),
        )

    return train


def test_an_encoder_is_one_module_that_an_overlay_names(trained_with: Any) -> None:
    _, trained, settings = trained_with("new_encoder", ENCODER, ENCODER_OVERLAY, drop=("encoder::name",))
    assert trained["segmenter.encoder.coarse.weight"].shape[0] == 16
    assert settings["encoder"]["width"] == 8


def test_another_family_of_the_bundle_is_named_in_the_same_way(training_settings: dict[str, Any]) -> None:
    settings = {key: value for key, value in training_settings.items() if key != "encoder::name"}
    encoder = {"_target_": "development.baselines.monai_networks.EfficientNetEncoder", "in_channels": 4}
    parser = workflow("training", TRAIN, encoder=encoder, **settings).parser
    predictor = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        assert predictor(torch.zeros(1, 1, 40, 36, 3)).shape == (1, 1 + len(settings["organs"]), 40, 36, 3)
    assert parser.get_parsed_content("contrastive::network").encoder is predictor.segmenter.encoder


def test_a_coarse_network_is_one_module_that_an_overlay_names(trained_with: Any) -> None:
    drop = ("coarse_network::channels",)
    _, trained, settings = trained_with("new_coarse", COARSE, COARSE_OVERLAY, drop=drop)
    assert trained["coarse.network.0.weight"].shape == (4, 1, 3, 3, 3)
    assert settings["coarse_network"]["_target_"] == "new_coarse.PlainNetwork"


def test_a_loss_is_one_module_that_an_overlay_names(trained_with: Any) -> None:
    module, trained, _ = trained_with("new_loss", LOSS, LOSS_OVERLAY)
    assert module.USED and all(bool(value.isfinite().all()) for value in trained.values())


def test_a_baseline_is_one_module_and_one_overlay(trained_with: Any) -> None:
    module, trained, settings = trained_with("new_baseline", BASELINE, BASELINE_OVERLAY)
    assert module.DRAWN and all(len(organs) == 1 for organs in module.DRAWN)
    assert not any(name.startswith("coarse.") for name in trained) and settings["method"] == "bright"
