"""The encoder, sizes of its maps, dilation in place of stride; and the contrastive network on top of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet18
from torch import Tensor, nn

from development.baselines.monai_networks import EfficientNetEncoder
from scripts.networks.contrastive import ContrastiveNetwork, ProjectionHead
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import QueryEncoder, ResNetEncoder, load_torchvision_weights


@pytest.mark.parametrize(
    ("name", "widen_factor", "channels"),
    [
        ("resnet18", 1.0, [64, 64, 512]),
        ("resnet34", 1.0, [64, 64, 512]),
        ("resnet50", 1.0, [64, 256, 2048]),
        ("resnet18", 0.25, [16, 16, 128]),
        ("resnet50", 0.5, [32, 128, 1024]),
    ],
)
def test_the_maps_have_the_channels_that_a_decoder_is_told(name: str, widen_factor: float, channels: list[int]) -> None:
    encoder = ResNetEncoder(name, in_channels=4, widen_factor=widen_factor).eval()
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 4, 32, 48))
    assert encoder.channels == channels == [features.shape[1] for features in maps]


@pytest.mark.parametrize(
    ("stem_stride", "stem_pool", "output_stride", "sizes"),
    [
        # A 64 x 96 patch. Ours: stem at 1/2, layer 1 at 1/4 and the last map at the output stride.
        (2, True, 8, [(32, 48), (16, 24), (8, 12)]),
        (2, True, 16, [(32, 48), (16, 24), (4, 6)]),
        (2, True, 32, [(32, 48), (16, 24), (2, 3)]),
        # The public code: a stem of stride 1 without pool, everything four times finer.
        (1, False, 32, [(64, 96), (64, 96), (8, 12)]),
        (1, False, 16, [(64, 96), (64, 96), (16, 24)]),
        (1, True, 16, [(64, 96), (32, 48), (8, 12)]),
    ],
)
def test_the_sizes_of_the_maps_follow_from_stem_and_output_stride(
    stem_stride: int, stem_pool: bool, output_stride: int, sizes: list[tuple[int, int]]
) -> None:
    encoder = ResNetEncoder("resnet18", 2, stem_stride, stem_pool, output_stride).eval()
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 2, 64, 96))
    assert [tuple(features.shape[2:]) for features in maps] == sizes
    assert encoder.strides == [64 // size[0] for size in sizes]


@pytest.mark.parametrize(("output_stride", "dilations"), [(32, (1, 1)), (16, (1, 2)), (8, (2, 4))])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_below_stride_32_the_last_layers_are_dilated_instead_of_strided(
    name: str, output_stride: int, dilations: tuple[int, int]
) -> None:
    encoder = ResNetEncoder(name, output_stride=output_stride)
    for layer, dilation in zip((encoder.layer3, encoder.layer4), dilations, strict=True):
        convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
        assert {conv.dilation[0] for conv in convolutions if conv.kernel_size == (3, 3)} == {dilation}
        assert max(conv.stride[0] for conv in convolutions) == (2 if dilation == 1 else 1)


def test_dilation_changes_no_weights() -> None:
    # Weights of any output stride therefore fit all of them.
    fine, coarse = (ResNetEncoder("resnet18", output_stride=stride).state_dict() for stride in (8, 32))
    assert {key: value.shape for key, value in fine.items()} == {key: value.shape for key, value in coarse.items()}


def test_every_input_channel_matters() -> None:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18", in_channels=3).eval()
    queries = torch.rand(1, 3, 32, 32, requires_grad=True)
    encoder(queries)[-1].sum().backward()
    assert queries.grad is not None
    assert bool((queries.grad.abs().sum(dim=(0, 2, 3)) > 0).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet101"}, "encoder 'resnet101' is unknown: choose one of resnet18, resnet34, resnet50"),
        ({"output_stride": 4}, "output_stride 4 is not possible: choose 8, 16 or 32"),
        ({"widen_factor": 0.0}, "widen_factor 0.0 leaves no channel of 64: take 1, 0.5 or 0.25"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetEncoder(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", [ResNetEncoder("resnet18", 4), EfficientNetEncoder("efficientnet-b0", 4)])
@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_every_encoder_keeps_to_the_interface_and_is_trained_whole(
    encoder: QueryEncoder, size: tuple[int, int]
) -> None:
    maps = encoder.train()(torch.rand(2, encoder.in_channels, *size))
    assert [features.shape[1] for features in maps] == encoder.channels
    for features, stride in zip(maps, encoder.strides, strict=True):
        assert tuple(features.shape[2:]) == tuple(-(-side // stride) for side in size)
    encoder.zero_grad()
    DeepLabDecoder(encoder.channels, width=8)(maps, list(size)).square().mean().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_an_encoder_that_draws_no_random_numbers_gives_a_resumed_run_the_same_ones() -> None:
    encoder, queries = EfficientNetEncoder(in_channels=2).train(), torch.rand(2, 2, 32, 32)
    state = torch.get_rng_state()
    encoder(queries)
    assert torch.equal(state, torch.get_rng_state())


def torchvision_layout() -> nn.Module:
    """MONAI's ResNet-18 of 1,000 classes, whose weights have the names and shapes of torchvision's; they are random."""
    torch.manual_seed(0)
    network = resnet18(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, num_classes=1000, bias_downsample=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@pytest.mark.parametrize("channels", [3, 4])
def test_torchvisions_weights_answer_to_colours_as_they_did_whatever_the_attention(
    channels: int, tmp_path: Path
) -> None:
    known, encoder = torchvision_layout(), ResNetEncoder("resnet18", channels, output_stride=32).eval()
    state = known.state_dict()
    assert len(state) == 122 and {"conv1.weight", "layer4.1.bn2.running_var", "fc.bias"} <= set(state)
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for content in (state, old):  # the first versions of PyTorch counted no batches
        torch.save(content, tmp_path / "resnet18.pth")
        load_torchvision_weights(encoder, str(tmp_path / "resnet18.pth"))
        photograph, attention = torch.rand(1, 3, 96, 64), torch.rand(1, channels - 3, 96, 64)
        with torch.no_grad():
            stem = known.act(known.bn1(known.conv1(photograph)))
            expected = known.layer4(known.layer3(known.layer2(known.layer1(known.maxpool(stem)))))
            torch.testing.assert_close(encoder(torch.cat([photograph, attention], dim=1))[-1], expected)


def test_without_a_file_the_weights_stay_random() -> None:
    encoder = ResNetEncoder("resnet18", 4)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    load_torchvision_weights(encoder, None)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "content", "message"),
    [
        (ResNetEncoder("resnet18", 2), None, r"do not fit the encoder \(.*and photographs \(image_channels 3\)"),
        (EfficientNetEncoder(in_channels=4), None, "ResNet of encoder::name"),
        (ResNetEncoder("resnet18", 4), {}, r"do not fit the encoder \('stem.0.weight'\)"),
        (ResNetEncoder("resnet18", 4), {"state_dict": {}}, "expected torchvision's ResNet of encoder::name"),
        (ResNetEncoder("resnet34", 4), None, r'Missing key.* "layer1.2.conv1.weight"'),
        (ResNetEncoder("resnet18", 4, widen_factor=0.5), None, "encoder::widen_factor 1"),
    ],
)
def test_weights_of_another_network_are_refused(
    encoder: QueryEncoder, content: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    torch.save(torchvision_layout().state_dict() if content is None else content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=message):
        load_torchvision_weights(encoder, str(tmp_path / "weights.pth"))


def test_an_encoder_of_two_maps_is_refused_by_the_decoder() -> None:
    with pytest.raises(ValueError, match=r"takes three encoder maps, finest first, and got channels \[8, 16\]"):
        DeepLabDecoder([8, 16])


class KnownEncoder(nn.Module):
    """An encoder whose last map is known."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, views: Tensor) -> list[Tensor]:
        return [views, views, self.features]


def pooled(features: Tensor, attention: Tensor, pooling: str) -> Tensor:
    """What the head is given."""
    views = torch.cat([torch.zeros_like(attention), attention], dim=1)
    return ContrastiveNetwork(KnownEncoder(features), nn.Identity(), pooling)(views)  # type: ignore[arg-type]


FEATURES = torch.tensor([[1.0, 2.0], [3.0, 10.0]])[None, None]
"""One channel on 2 x 2 positions."""


def test_the_patch_is_averaged_whole_in_the_public_codes_form() -> None:
    assert pooled(FEATURES, torch.ones(1, 1, 4, 4), "patch").tolist() == [[4.0]]


def test_attention_pooling_averages_the_positions_that_it_highlights() -> None:
    # A 4 x 4 attention on 2 x 2 positions: all of the lower left one, half of the lower right one.
    attention = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]]).float()[None, None]
    assert float(pooled(FEATURES, attention, "attention")) == pytest.approx((1 * 3 + 0.5 * 10) / 1.5, abs=0.02)


def test_a_view_whose_attention_was_dropped_is_averaged_whole() -> None:
    assert pooled(FEATURES, torch.zeros(1, 1, 4, 4), "attention").tolist() == [[pytest.approx(4.0)]]


def test_the_strength_of_the_attention_does_not_matter() -> None:
    attention = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    full, half = (pooled(FEATURES, attention * strength, "attention") for strength in (1.0, 0.5))
    assert float(full) == pytest.approx(float(half), abs=0.02)


def test_embeddings_have_unit_norm_in_float32() -> None:
    head = ProjectionHead(16, 8, 4)
    embeddings = head(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    assert embeddings.shape == (5, 4) and embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head(torch.ones(1, 16))
    assert low.dtype == torch.float32 and float(low.detach().norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("pooling", ["patch", "attention"])
def test_the_loss_reaches_the_encoder(pooling: str) -> None:
    encoder = ResNetEncoder("resnet18")
    network = ContrastiveNetwork(encoder, ProjectionHead(encoder.channels[-1], 16, 8), pooling)
    embeddings = network(torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert embeddings.shape == (2, 8)
    (embeddings[0] @ embeddings[1]).backward()
    weight = encoder.stem[0].weight
    assert weight.grad is not None and float(weight.grad.abs().sum()) > 0


def test_another_pooling_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="pooling 'max' is unknown: choose 'patch' or 'attention'"):
        ContrastiveNetwork(ResNetEncoder("resnet18"), ProjectionHead(512), "max")
