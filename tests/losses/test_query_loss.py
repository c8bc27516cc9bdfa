"""Each organ of a batch counts alike, and pixels whose truth is unknown not at all."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor
from torch.nn import BCEWithLogitsLoss, Module

from scripts.losses.partial_labels import OrganWeightDecay, PartialDiceCELoss, QueryLoss, certain_background
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


def test_the_example_of_the_docstring() -> None:
    logits = torch.tensor([0.2, 3.0, 1.0]).reshape(1, 3, 1, 1)
    certain, label = certain_background(logits, torch.full((1, 1, 1, 1), IGNORED))
    assert label.tolist() == [[[[0]]]]
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


def weights_of_a_stage(start: float, epochs: int, epoch_length: int, first_epoch: int = 0) -> list[float]:
    loss, seen = PartialDiceCELoss(2, organ_weight=start), []
    trainer = Engine(lambda *_: seen.append(float(loss.weight[1])))
    OrganWeightDecay(loss).attach(trainer)

    @trainer.on(Events.STARTED)
    def resume() -> None:
        trainer.state.epoch, trainer.state.iteration = first_epoch, first_epoch * epoch_length

    trainer.run(range(epoch_length), max_epochs=epochs, epoch_length=epoch_length)
    return seen


def test_it_halves_in_equal_steps_and_ends_near_one() -> None:
    # 16 = 2^4 over four iterations: one halving each.
    assert weights_of_a_stage(16.0, epochs=2, epoch_length=2) == pytest.approx([16, 8, 4, 2])


def test_a_resumed_stage_goes_on_with_the_weight_it_stopped_at() -> None:
    assert weights_of_a_stage(20.0, 4, 3, first_epoch=2) == weights_of_a_stage(20.0, 4, 3)[6:]


def test_a_weight_of_one_stays() -> None:
    assert weights_of_a_stage(1.0, 2, 2) == [1, 1, 1, 1]


def test_background_keeps_its_weight_and_dice_follows() -> None:
    loss = PartialDiceCELoss(2, organ_weight=9.0, lambda_ce=0.0)
    batch = {"label": torch.tensor([[[0, 1, 2]]]), "annotated": torch.ones(1, 3, dtype=torch.bool)}
    logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]])
    dice = loss(logits, batch)
    loss.weigh_organs(3.0)
    assert loss.weight.tolist() == [1, 3, 3]
    assert loss(logits, batch).item() == pytest.approx(dice.item() / 3)
