"""What a stage trains on and validates by: batches known from their number, and a validation after the last epoch."""

from __future__ import annotations

import os
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, State

from scripts.runtime.stage import StageValidation
from scripts.runtime.streams import Batch, BatchStream, StreamLoader


class Numbers(BatchStream):
    """Batch n: its number, and one random number."""

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        return {"iteration": iteration, "drawn": torch.rand(1, generator=generator)}


def first(count: int, stream: BatchStream, workers: int = 0) -> list[tuple[int, float]]:
    batches = islice(StreamLoader(stream, workers), count)
    return [(int(batch["iteration"]), float(batch["drawn"])) for batch in batches]


def test_batches_come_in_order_and_without_end() -> None:
    assert [number for number, _ in first(100, Numbers())] == list(range(100))


@given(seed=st.integers(0, 2**31), start=st.integers(0, 10**6))
def test_a_stream_started_late_gives_the_batches_that_it_would_have_reached(seed: int, start: int) -> None:
    whole, resumed = Numbers(seed), Numbers(seed)
    whole.start_at(start)
    resumed.start_at(start + 2)
    assert first(5, whole)[2:] == first(3, resumed)


@given(seed=st.integers(0, 2**31))
def test_neighbouring_seeds_and_batches_draw_other_numbers(seed: int) -> None:
    drawn = [number for stream in (Numbers(seed), Numbers(seed + 1)) for _, number in first(10, stream)]
    assert len(set(drawn)) == 20


def test_the_same_seed_draws_the_same_numbers_whatever_was_drawn_elsewhere() -> None:
    before = first(3, Numbers(7))
    torch.rand(5)
    assert first(3, Numbers(7)) == before


def test_loader_workers_do_not_change_the_batches_nor_their_order() -> None:
    assert first(7, Numbers(3), workers=2) == first(7, Numbers(3))


class Planned(BatchStream):
    """Batch n: the processes that planned and made it."""

    planner = 0

    def plan(self) -> None:
        self.planner = os.getpid()

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        return {"planner": self.planner, "maker": os.getpid()}


def test_the_batches_of_loader_processes_are_planned_in_the_process_that_trains() -> None:
    batch = next(iter(StreamLoader(Planned(), num_workers=1)))
    assert int(batch["planner"]) == os.getpid() != int(batch["maker"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_without_checkpoints_goes_on_with_the_batches_in_its_second_run(workers: int) -> None:
    stream, seen = Numbers(), list[int]()
    loader = StreamLoader(stream, workers)
    engine = Engine(lambda _engine, batch: seen.append(int(batch["iteration"])))
    stream.attach(engine)
    for epochs in (1, 2):
        engine.state.max_epochs = None if epochs == 1 else epochs
        engine.run(loader, max_epochs=epochs, epoch_length=3)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_stream_without_a_batch_method_says_so() -> None:
    with pytest.raises(TypeError, match="BatchStream makes no batches"):
        next(iter(BatchStream()))


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
