"""The TensorRT overlay where there is no TensorRT: nothing changes. On a GPU: the same labels but for rounding."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from config_compositions import INFERENCE, ROOT
from tiny_bundle import TinyBundle
from torch import Tensor

from scripts.inference.predictor import TwoStagePredictor
from scripts.inference.weights import load_weights
from scripts.runtime.composition import composed

FILES = [str(ROOT / INFERENCE), str(ROOT / "configs/variants/tensorrt.yaml")]
HAS_TENSORRT = torch.cuda.is_available() and find_spec("tensorrt") is not None and find_spec("polygraphy") is not None


def compiled(bundle: TinyBundle, **overrides: str) -> TwoStagePredictor:
    """The network as the overlay makes it, with weights loaded afterwards as the workflow does."""
    network = composed(FILES, **{**bundle.settings, **overrides}).get_parsed_content("network")
    assert isinstance(network, TwoStagePredictor)
    load_weights(network, bundle.model)
    return network.eval()


@pytest.mark.skipif(HAS_TENSORRT, reason="TensorRT is there")
def test_without_tensorrt_the_network_is_the_plain_one(tiny_bundle: TinyBundle, volume: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(compiled(tiny_bundle)(volume), tiny_bundle.predictor(volume))
    assert not list(tiny_bundle.model.parent.glob("*.plan"))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_TENSORRT, reason="needs a GPU, tensorrt and polygraphy")
def test_with_tensorrt_the_labels_are_those_of_pytorch(tiny_bundle: TinyBundle, volume: Tensor, tmp_path: Path) -> None:
    network = compiled(tiny_bundle, device="cuda", model_path=str(tmp_path / "model.pt"))
    with torch.no_grad():
        labels, expected = network(volume.cuda()).argmax(dim=1).cpu(), tiny_bundle.predictor(volume).argmax(dim=1)
    assert list(tmp_path.glob("*.plan"))
    assert float((labels == expected).float().mean()) > 0.99
