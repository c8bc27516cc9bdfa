"""Each organ of a batch counts alike, and pixels whose truth is unknown not at all."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor
from torch.nn import BCEWithLogitsLoss, Module

from scripts.losses.partial_labels import QueryLoss
from scripts.preprocessing.organ_labels import IGNORED


def queries(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and labels [3, 1, 6, 8]; the right half is unknown."""
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(3, 1, 6, 8, generator=generator) > 0.5).float()
    label[..., 4:] = IGNORED
    return torch.randn(3, 1, 6, 8, generator=generator), label


def loss_of(loss: Module, logits: Tensor, label: Tensor, organs: tuple[int, ...] = (2, 2, 2)) -> Tensor:
    result: Tensor = QueryLoss(loss)(logits, {"label": label, "organ": torch.tensor(organs)})
    return result


def test_it_is_the_mean_of_the_losses_of_each_organs_queries() -> None:
    logits, label = (half[..., :4] for half in queries())
    loss = DiceCELoss(sigmoid=True, batch=True)
    organ_5 = loss(logits[[0, 2]], label[[0, 2]])
    organ_3 = loss(logits[[1]], label[[1]])
    assert torch.isclose(loss_of(loss, logits, label, (5, 3, 5)), (organ_5 + organ_3) / 2)


def test_an_organ_of_few_pixels_counts_as_much_as_one_of_many() -> None:
    """A large organ found, a small one missed: 1/2 is lost organ by organ, and next to nothing over all pixels."""
    label = torch.zeros(2, 1, 10, 10)
    label[0, :, :9], label[1, :, 0, 0] = 1, 1
    logits = torch.full_like(label, -20.0)
    logits[0, :, :9] = 20.0
    loss = DiceLoss(sigmoid=True, batch=True)
    assert torch.isclose(loss_of(loss, logits, label, (1, 2)), torch.tensor(0.5), atol=1e-3)
    assert float(loss(logits, label)) < 0.01


def test_of_a_single_organ_it_is_the_loss_itself() -> None:
    logits, label = (half[..., :4] for half in queries())
    loss = DiceCELoss(sigmoid=True, batch=True)
    assert torch.equal(loss_of(loss, logits, label), loss(logits, label))


def test_the_dice_is_that_of_the_known_half() -> None:
    logits, label = queries()
    loss = DiceLoss(sigmoid=True, batch=True)
    assert torch.isclose(loss_of(loss, logits, label), loss(logits[..., :4], label[..., :4]))


def test_the_cross_entropy_sums_over_the_known_half() -> None:
    logits, label = queries()
    summed = BCEWithLogitsLoss(reduction="sum")
    assert torch.isclose(loss_of(summed, logits, label), summed(logits[..., :4], label[..., :4]))


def test_unknown_pixels_get_no_gradient_and_the_others_do() -> None:
    logits, label = queries()
    logits.requires_grad_()
    loss_of(DiceCELoss(sigmoid=True, batch=True), logits, label, (1, 2, 1)).backward()
    assert logits.grad is not None
    assert not bool(logits.grad[..., 4:].any()) and bool((logits.grad[..., :4] != 0).all())
