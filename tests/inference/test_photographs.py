"""The predictor of voc.yaml: photographs in, class scores out; the coarse 3D network with flat kernels is a 2D one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from config_compositions import ROOT
from monai.bundle import ConfigParser
from tiny_scan import KnownCoarse
from torch import Tensor, nn

from development.baselines.coarse_channels import CoarseOnly
from scripts.inference.predictor import TwoStagePredictor

VOC = ("configs/train.yaml", "configs/data/voc.yaml")


def predictor_of(*overlays: str, **changes: Any) -> Any:
    """The untrained predictor of the configs, with small networks."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in (*VOC, *overlays)])
    parser.update({"bundle_root": str(ROOT), "organs": ["disc", "square"], "encoder::name": "resnet18"})
    parser.update({"coarse_network::channels": [8, 8, 8, 8], "query_planner::patch_size": 32, **changes})
    torch.manual_seed(0)
    return parser.get_parsed_content("network_def").eval()


def photographs(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).float()


def test_a_photograph_gives_the_scores_of_its_classes() -> None:
    predictor = predictor_of(**{"query_planner::threshold": 0.05})
    assert isinstance(predictor, TwoStagePredictor) and predictor.segmenter.encoder.in_channels == 4
    with torch.no_grad():
        scores = predictor(photographs(2, 3, 60, 44, 1))
    assert scores.shape == (2, 3, 60, 44, 1)
    assert float(scores[:, 1:].max()) > 0, "a class was asked for"


def test_a_class_that_the_coarse_stage_does_not_see_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = predictor_of()
    maps = torch.zeros(2, 15, 11, 1)
    maps[1, 2:9, 3:8] = 0.9  # a square, and no disc
    predictor.coarse = KnownCoarse(maps)
    heard: list[Tensor] = []
    monkeypatch.setattr(predictor.segmenter, "forward", lambda queries: heard.append(queries) or queries[:, -1:])
    scores = predictor(photographs(1, 3, 60, 44, 1))
    assert float(scores[0, 1].max()) == 0 and float(scores[0, 2].max()) > 0
    assert {tuple(queries.shape[1:]) for queries in heard} == {(4, 32, 32)}
    # Windows 1 and 2 along x, 1 and 2 along y: the square with its margin is wider than 32 pixels.
    assert sum(len(queries) for queries in heard) == 4


def test_the_coarse_network_sees_no_slice_but_its_own() -> None:
    network = predictor_of().coarse.network
    flat = [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)]
    assert flat and all(module.kernel_size[2] == 1 and module.stride[2] == 1 for module in flat)
    volume = photographs(1, 3, 16, 24, 3) / 255
    with torch.no_grad():
        apart = torch.cat([network(volume[..., n : n + 1]) for n in range(3)], dim=-1)
        torch.testing.assert_close(network(volume), apart, atol=1e-5, rtol=0)


def test_photographs_of_any_size_and_the_same_from_torchscript() -> None:
    predictor = predictor_of(**{"query_planner::threshold": 0.05})
    scripted = torch.jit.script(predictor)
    with torch.no_grad():
        for shape in ((1, 3, 33, 61, 1), (2, 3, 20, 18, 1)):
            expected = predictor(photographs(*shape))
            torch.testing.assert_close(scripted(photographs(*shape)), expected, atol=1e-5, rtol=0)
            assert CoarseOnly(predictor)(photographs(*shape)).shape == expected.shape


def test_a_volume_of_one_channel_is_refused() -> None:
    predictor = predictor_of()
    for each in (predictor, CoarseOnly(predictor), predictor_of("configs/baselines/slice.yaml")):
        with pytest.raises(ValueError, match=r"expects \[batch, 3, x, y, z\]"):
            each(photographs(1, 1, 40, 40, 1))


def test_the_slice_baseline_takes_photographs_too() -> None:
    predictor = predictor_of("configs/baselines/slice.yaml")
    assert predictor.segmenter.encoder.in_channels == 3
    with torch.no_grad():
        both = predictor(photographs(2, 3, 60, 44, 1))
        torch.testing.assert_close(both[1:], predictor(photographs(2, 3, 60, 44, 1)[1:]), atol=1e-5, rtol=0)
    assert both.shape == (2, 3, 60, 44, 1)
    torch.testing.assert_close(both.sum(dim=1), torch.ones(2, 60, 44, 1), atol=1e-5, rtol=0)
