"""Pixels whose truth is unknown change no loss and get no gradient."""

from __future__ import annotations

import pytest
import torch

from scripts.losses.partial_labels import PartialDiceCELoss, certain_background
from scripts.preprocessing.organ_labels import IGNORED


def test_the_example_of_the_docstring() -> None:
    logits = torch.tensor([0.2, 3.0, 1.0]).reshape(1, 3, 1, 1)
    certain = certain_background(logits, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    assert certain.flatten().tolist() == [0.0, -1e4, -1e4]
    assert certain.softmax(dim=1).flatten().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("contoured", [[True, True], [True, False]])
def test_the_multi_class_loss_gives_unknown_pixels_no_gradient(contoured: list[bool]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 6, 8, generator=generator).requires_grad_()
    label = torch.randint(3, (2, 1, 6, 8), generator=generator, dtype=torch.uint8)
    label[..., 4:] = IGNORED
    annotated = torch.tensor([[False, *contoured]] * 2)
    loss = PartialDiceCELoss(2, organ_weight=3.0)(logits, {"label": label, "annotated": annotated})
    loss.backward()
    assert bool(loss.isfinite()) and logits.grad is not None
    assert not bool(logits.grad[..., 4:].any()) and bool(logits.grad[..., :4].any())


def test_what_is_predicted_at_unknown_pixels_does_not_matter_to_the_multi_class_loss() -> None:
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., 0], label[..., 3] = 1, IGNORED
    targets = {"label": label, "annotated": torch.tensor([[False, True]])}
    first, second = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    second[:, 1, :, 3] = 50.0
    loss = PartialDiceCELoss(1)
    assert torch.equal(loss(first, targets), loss(second, targets))
