"""The decoder: from the encoder's maps to logits of the size that is asked for."""

from __future__ import annotations

import pytest
import torch

from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder


def maps_of(*sizes: tuple[int, int], queries: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = (8, 16, 32)
    return [torch.rand(queries, c, *size, generator=generator) for c, size in zip(channels, sizes, strict=True)]


@pytest.mark.parametrize("out_channels", [1, 14])
def test_logits_have_the_size_that_is_asked_for(out_channels: int) -> None:
    decoder = DeepLabDecoder([8, 16, 32], out_channels, width=8)
    logits = decoder(maps_of((24, 16), (12, 8), (6, 4)), [48, 32])
    assert logits.shape == (2, out_channels, 48, 32)


def test_maps_of_odd_sizes_fit_together() -> None:
    decoder = DeepLabDecoder([8, 16, 32], width=8)
    assert decoder(maps_of((25, 17), (13, 9), (7, 5)), [49, 33]).shape == (2, 1, 49, 33)


def test_every_map_has_a_say_in_the_logits() -> None:
    torch.manual_seed(0)
    decoder = DeepLabDecoder([8, 16, 32], width=8).eval()
    maps = [features.requires_grad_() for features in maps_of((24, 16), (12, 8), (6, 4))]
    # A weighted sum: the plain sum over positions would hide what a normalisation over positions passes on.
    logits = decoder(maps, [48, 32])
    (logits * torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert all(features.grad is not None and float(features.grad.abs().sum()) > 0 for features in maps)


def test_every_dilation_has_a_branch_the_first_of_which_looks_at_single_pixels() -> None:
    decoder = DeepLabDecoder([8, 16, 32], width=8, dilations=[1, 2, 4])
    convolutions = [module for module in decoder.aspp.modules() if isinstance(module, torch.nn.Conv2d)]
    branches = [(conv.kernel_size[0], conv.dilation[0]) for conv in convolutions[:3]]
    assert branches == [(1, 1), (3, 2), (3, 4)]


def test_the_logits_of_a_query_do_not_depend_on_the_other_queries_at_inference() -> None:
    torch.manual_seed(0)
    decoder = DeepLabDecoder([8, 16, 32], width=8).eval()
    maps = maps_of((24, 16), (12, 8), (6, 4), queries=3)
    together = decoder(maps, [48, 32])
    alone = decoder([features[1:2] for features in maps], [48, 32])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_channels_of_an_encoder_fit(name: str) -> None:
    encoder = ResNetEncoder(name).eval()
    decoder = DeepLabDecoder(encoder.channels, width=8).eval()
    with torch.no_grad():
        assert decoder(encoder(torch.zeros(1, 2, 32, 32)), [32, 32]).shape == (1, 1, 32, 32)
