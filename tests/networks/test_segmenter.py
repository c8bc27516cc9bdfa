"""The query segmenter and its decoder: sizes of logits, what a frozen encoder may not do, and what is optimised."""

from __future__ import annotations

import pytest
import torch
from tiny_predictor import MakePredictor

from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter, SharedSegmenter


def segmenter_of(frozen: bool) -> QuerySegmenter:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18")
    return QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, width=8), frozen_encoder=frozen)


def queries(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 2, 32, 48, generator=torch.Generator().manual_seed(seed))


def train_a_step(segmenter: QuerySegmenter) -> dict[str, bool]:
    """Which tensors of the state a step changes."""
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    optimizer = torch.optim.SGD(segmenter.trainable_parameters(), lr=0.1)
    segmenter.train()
    segmenter(queries()).square().mean().backward()
    optimizer.step()
    return {key: not torch.equal(value, before[key]) for key, value in segmenter.state_dict().items()}


def test_logits_have_the_size_of_the_query() -> None:
    assert segmenter_of(frozen=False)(queries()).shape == (3, 1, 32, 48)


def test_a_frozen_encoder_keeps_its_weights_and_its_batch_statistics() -> None:
    segmenter = segmenter_of(frozen=True)
    changed = train_a_step(segmenter)
    assert not any(change for key, change in changed.items() if key.startswith("encoder."))
    assert any(change for key, change in changed.items() if key.startswith("decoder."))
    assert all(parameter.grad is None for parameter in segmenter.encoder.parameters())


def test_a_frozen_encoder_stays_in_evaluation_mode_while_the_decoder_trains() -> None:
    segmenter = segmenter_of(frozen=True)
    assert segmenter.train() is segmenter
    assert segmenter.training and segmenter.decoder.training and not segmenter.encoder.training
    assert not segmenter.eval().decoder.training


def test_an_encoder_that_is_not_frozen_is_fine_tuned() -> None:
    changed = train_a_step(segmenter_of(frozen=False))
    assert changed["encoder.stem.0.weight"] and changed["encoder.stem.1.running_mean"]


def test_freezing_changes_the_training_only() -> None:
    with torch.no_grad():
        frozen, tuned = (segmenter_of(frozen).eval()(queries()) for frozen in (True, False))
    assert torch.equal(frozen, tuned)


def test_what_is_optimised_follows_from_freezing() -> None:
    frozen, tuned = segmenter_of(True), segmenter_of(False)
    assert len(list(frozen.trainable_parameters())) == len(list(frozen.decoder.parameters()))
    assert len(list(tuned.trainable_parameters())) == len(list(tuned.parameters()))


def test_the_attention_decides_what_is_segmented() -> None:
    image, both = queries()[:1, :1], segmenter_of(False).eval()
    with torch.no_grad():
        asked = [both(torch.cat([image, torch.full_like(image, value)], dim=1)) for value in (0.0, 1.0)]
    assert not torch.allclose(asked[0], asked[1])


def test_with_the_attention_residual_an_output_of_zero_means_the_coarse_map() -> None:
    encoder = ResNetEncoder("resnet18")
    segmenter = QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, width=16), attention_residual=True).eval()
    for parameter in segmenter.decoder.output.parameters():
        torch.nn.init.zeros_(parameter)
    queries = torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = queries[:, 1:].clamp(0.02, 0.98)
    with torch.no_grad():
        assert torch.allclose(torch.sigmoid(segmenter(queries)), expected, atol=1e-5)


def test_the_weights_that_sites_share_have_the_names_that_they_have_in_the_predictor(
    make_predictor: MakePredictor,
) -> None:
    predictor = make_predictor()
    shared, whole = SharedSegmenter(predictor.segmenter).state_dict(), predictor.state_dict()
    assert shared.keys() == {name for name in whole if name.startswith("segmenter.")}
    assert all(torch.equal(value, whole[name]) for name, value in shared.items())


def test_the_shared_network_answers_and_learns_as_the_segmenter_does(make_predictor: MakePredictor) -> None:
    segmenter = make_predictor().segmenter
    shared, queries = SharedSegmenter(segmenter), torch.rand(2, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(shared(queries), segmenter(queries))
    assert list(shared.trainable_parameters()) == list(segmenter.trainable_parameters())


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
