from __future__ import annotations

import pytest
from ignite.engine import Engine, State

from scripts.runtime.stage import StageValidation


class Validator:
    """Notes the epochs at which it is run."""

    def __init__(self, cases: int = 1) -> None:
        self.epochs: list[int] = []
        self.state = State(epoch_length=cases)

    def run(self, global_epoch: int) -> None:
        self.epochs.append(global_epoch)


@pytest.mark.parametrize(
    ("epochs", "interval", "expected"),
    [(6, 2, [2, 4, 6]), (7, 3, [3, 6, 7]), (2, 10, [2]), (1, 1, [1])],
)
def test_every_so_many_epochs_and_once_after_the_last(epochs: int, interval: int, expected: list[int]) -> None:
    handler, validator = StageValidation(interval=interval), Validator()
    handler.validator = validator  # type: ignore[assignment]
    trainer = Engine(lambda engine, batch: None)
    handler.attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert validator.epochs == expected


def test_without_a_validation_case_nothing_is_validated() -> None:
    handler, validator = StageValidation(interval=1), Validator(cases=0)
    handler.validator = validator  # type: ignore[assignment]
    trainer = Engine(lambda engine, batch: None)
    handler.attach(trainer)
    trainer.run([0], max_epochs=2)
    assert validator.epochs == []
