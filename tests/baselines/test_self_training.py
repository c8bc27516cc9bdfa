"""Self-training: an unlabelled scan's label is its coarse map, a labelled one keeps its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from development.baselines.self_training import SelfTrainingBatches
from scripts.queries.index import Query


def batches(label: torch.Tensor | None, maps: torch.Tensor) -> Any:
    made: Any = object.__new__(SelfTrainingBatches)
    made._stored = [SimpleNamespace(image=torch.zeros(1, 4, 4), label=label)]
    made.data, made.maps = [{}], SimpleNamespace(of=lambda case: maps)
    return made


def test_the_label_of_an_unlabelled_scan_is_the_organs_thresholded_map_on_the_pixels_of_the_slice() -> None:
    maps = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    maps[0, 1] = torch.tensor([[255, 0], [255, 0]], dtype=torch.uint8)
    found = batches(None, maps)._label(Query(0, organ=2, slice=0, x=0, y=0, number=0))
    # Between the two coarse columns the probability is 1, .75, .25, 0.
    assert found.tolist() == [[[2, 2, 0, 0]] * 4] and found.dtype == torch.uint8


def test_a_labelled_scan_keeps_its_label_whatever_the_coarse_stage_says() -> None:
    label = torch.ones(1, 4, 4, dtype=torch.uint8)
    maps = torch.full((1, 2, 2, 2), 255, dtype=torch.uint8)
    assert torch.equal(batches(label, maps)._label(Query(0, 2, 0, 0, 0, 0)), label)
