"""A two-stage predictor that a test can afford."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from monai.networks.nets import UNet

from scripts.inference.predictor import TwoStagePredictor
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter
from scripts.queries.attention import AttentionMap
from scripts.queries.planner import QueryPlanner

MakePredictor = Callable[..., TwoStagePredictor]


@cache
def _untrained_segmenter(channels: int) -> QuerySegmenter:
    """Drawing the weights of a ResNet takes far longer than copying them."""
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18", in_channels=channels)
    return QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, width=16))


def make_predictor(
    organs: Sequence[str] = ("spleen", "liver"),
    patch_size: int = 32,
    adjacent_slices: int = 0,
    coarse: torch.nn.Module | None = None,
    segmenter: torch.nn.Module | None = None,
    attention: AttentionMap | None = None,
    **settings: Any,
) -> TwoStagePredictor:
    """A predictor for slices of any size; its networks, attention and further settings may be replaced."""
    torch.manual_seed(0)
    if coarse is None:
        network = UNet(3, 1, 1 + len(organs), channels=[4, 8], strides=[2])
        coarse = CoarseSegmenter(network, [2.0, 2.0, 3.0], [4.0, 4.0, 6.0], multiple=2)
    if segmenter is None:
        segmenter = copy.deepcopy(_untrained_segmenter(2 * adjacent_slices + 2))
    return TwoStagePredictor(
        organs=organs,
        window=[-175.0, 275.0],
        coarse=coarse,  # type: ignore[arg-type]
        attention=attention or AttentionMap(),
        planner=QueryPlanner(patch_size=patch_size, threshold=0.3, margin_slices=1, pad=4),
        segmenter=segmenter,  # type: ignore[arg-type]
        adjacent_slices=adjacent_slices,
        **settings,
    ).eval()
