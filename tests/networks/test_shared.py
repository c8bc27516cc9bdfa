"""What sites share: the segmentation stage, under the names of the whole predictor."""

from __future__ import annotations

import torch
from tiny_predictor import MakePredictor

from scripts.networks.shared import SharedSegmenter


def test_the_weights_have_the_names_that_they_have_in_the_predictor(make_predictor: MakePredictor) -> None:
    predictor = make_predictor()
    shared, whole = SharedSegmenter(predictor.segmenter).state_dict(), predictor.state_dict()
    assert shared.keys() == {name for name in whole if name.startswith("segmenter.")}
    assert all(torch.equal(value, whole[name]) for name, value in shared.items())


def test_it_answers_and_learns_as_the_segmenter_does(make_predictor: MakePredictor) -> None:
    segmenter = make_predictor().segmenter
    shared, queries = SharedSegmenter(segmenter), torch.rand(2, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(shared(queries), segmenter(queries))
    assert list(shared.trainable_parameters()) == list(segmenter.trainable_parameters())
