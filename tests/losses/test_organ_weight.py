"""The organ weight falls from its start to 1, and a resumed stage finds the weight of its iteration."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from scripts.losses.partial_labels import OrganWeightDecay, PartialDiceCELoss


def weights_of_a_stage(start: float, epochs: int, epoch_length: int, first_epoch: int = 0) -> list[float]:
    loss, seen = PartialDiceCELoss(2, organ_weight=start), []
    trainer = Engine(lambda *_: seen.append(float(loss.loss.cross_entropy.weight[1])))
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
    loss = PartialDiceCELoss(2, organ_weight=9.0)
    loss.weigh_organs(3.0)
    assert loss.loss.cross_entropy.weight.tolist() == [1, 3, 3] and loss.loss.dice.class_weight.tolist() == [3, 3]
