"""Queries whose organ competes with all others: what the attention adds, what is answered, and what is learnt."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from tiny_predictor import MakePredictor
from tiny_scan import KnownCoarse, coarse_maps_of, two_organs
from torch import Tensor

from scripts.losses.partial_labels import PartialDiceCELoss, QueryLoss
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter
from scripts.preprocessing.organ_labels import IGNORED
from scripts.queries.softmax_queries import SoftmaxQueryLoss, asked_logits, attended_logits

ASKED = torch.tensor([1, 2])


def logits_of(classes: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(2, classes, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_attention_counts_for_the_organ_that_is_asked_and_for_no_other() -> None:
    logits, attention = logits_of(), torch.full((2, 1, 8, 8), 0.75)
    added = attended_logits(logits, attention, ASKED) - logits
    expected = torch.zeros(2, 3, 8, 8)
    expected[0, 1] = expected[1, 2] = torch.logit(torch.tensor(0.75))
    torch.testing.assert_close(added, expected)


def test_a_query_without_attention_is_answered_by_the_image_alone() -> None:
    attention = torch.zeros(2, 1, 8, 8)
    attention[1, 0, 3, 3] = 1.0
    added = attended_logits(logits_of(), attention, ASKED) - logits_of()
    assert not bool(added[0].any()) and bool((added[1, 2] != 0).all())


def test_the_answer_is_the_softmax_of_the_organ_that_is_asked() -> None:
    logits = logits_of()
    probability = asked_logits(logits, ASKED).sigmoid()
    softmax = logits.softmax(dim=1)
    torch.testing.assert_close(probability, torch.stack([softmax[0, 1:2], softmax[1, 2:3]]))


def test_the_example_of_the_docstring() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().reshape(1, 3, 1, 1)
    torch.testing.assert_close(asked_logits(logits, torch.tensor([1])).exp().flatten(), torch.tensor([0.3 / 0.7]))


def test_the_loss_is_that_of_the_organ_that_is_asked_and_that_of_all_in_the_patch() -> None:
    classes = torch.randint(3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    targets = {
        "attention": torch.zeros(2, 1, 8, 8),
        "organ": ASKED,
        "label": (classes == ASKED[:, None, None, None]).float(),
        "classes": classes,
        "annotated": torch.ones(2, 3, dtype=torch.bool),
    }
    asked, all_organs = QueryLoss(DiceCELoss(sigmoid=True, batch=True)), PartialDiceCELoss(2)
    both = SoftmaxQueryLoss(asked, all_organs)(logits_of(), targets)
    in_patch = all_organs(logits_of(), {"label": classes, "annotated": targets["annotated"]})
    assert torch.isclose(both, in_patch + asked(asked_logits(logits_of(), ASKED), targets))


@pytest.mark.parametrize("ignored", [True, False])
def test_there_is_a_gradient_where_the_truth_is_known_and_only_there(ignored: bool) -> None:
    classes = torch.randint(3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    label = (classes == ASKED[:, None, None, None]).float()
    if ignored:
        classes[:, :, :4] = label[:, :, :4] = IGNORED
    logits = logits_of().requires_grad_()
    annotated = torch.ones(2, 3, dtype=torch.bool)
    targets = {"attention": torch.zeros(2, 1, 8, 8), "organ": ASKED, "label": label, "classes": classes}
    SoftmaxQueryLoss(QueryLoss(DiceCELoss(sigmoid=True, batch=True)), PartialDiceCELoss(2, organ_weight=3.0))(
        logits, {**targets, "annotated": annotated}
    ).backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all()) and bool(logits.grad[:, :, 4:].any())
    assert bool(logits.grad[:, :, :4].any()) != ignored


def softmax_segmenter(organs: int = 2) -> QuerySegmenter:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18", in_channels=2)
    return QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, 1 + organs, width=16))


def test_the_predictor_answers_each_query_with_its_own_organ(make_predictor: MakePredictor) -> None:
    maps = coarse_maps_of(two_organs(), 2, (44, 28)).permute(1, 2, 3, 0)
    segmenter = softmax_segmenter()
    torch.nn.init.zeros_(segmenter.decoder.output.weight)
    segmenter.decoder.output.bias.data = torch.tensor([0.0, 3.0, 0.0])  # it believes in organ 1 everywhere
    scores = make_predictor(coarse=KnownCoarse(maps), segmenter=segmenter)(torch.zeros(1, 1, 44, 28, 6))[0].float()
    inside = [(maps[n] == 1) & (scores[1 + n] > 0) for n in (0, 1)]
    odds, prior = torch.tensor([3.0, 0.0]).exp(), 0.98 / 0.02
    expected = [odds[0] * prior / (odds[0] * prior + 2), prior / (prior + 1 + odds[0])]
    for n in (0, 1):
        assert bool(inside[n].any())
        torch.testing.assert_close(scores[1 + n][inside[n]].mean(), expected[n], atol=1e-3, rtol=0)


def test_the_same_comes_out_of_torchscript(make_predictor: MakePredictor) -> None:
    predictor = make_predictor(segmenter=softmax_segmenter())
    volume = torch.randn(1, 1, 40, 33, 7, generator=torch.Generator().manual_seed(0)) * 200
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(predictor)(volume), predictor(volume), atol=1e-3, rtol=0)
