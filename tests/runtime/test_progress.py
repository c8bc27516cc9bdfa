from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.runtime import progress
from scripts.runtime.progress import StageProgress, readable_duration


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that stands still until a test moves it."""
    now = [100.0]
    monkeypatch.setattr("scripts.runtime.progress.time.monotonic", lambda: now[0])
    yield now


def trainer(losses: dict[int, float], seconds: list[float] | None = None, each: float = 0.0) -> Engine:
    """An engine whose iteration n has this loss, as MONAI's trainers give it, and takes `each` seconds."""

    def step(engine: Engine, batch: Any) -> list[dict[str, torch.Tensor]]:
        if seconds is not None:
            seconds[0] += each
        return [{"loss": torch.tensor(losses[engine.state.iteration], requires_grad=True)}]

    return Engine(step)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == progress.__name__]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert readable_duration(seconds) == text


def test_an_epoch_is_one_line_with_its_mean_loss_and_the_time_left(
    ticks: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    engine = trainer({1: 4.0, 2: 2.0, 3: 1.0, 4: 0.0}, ticks, each=5.0)
    StageProgress("contrastive").attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run([0, 0], max_epochs=2)
    assert logged(caplog) == [
        "contrastive: epoch 1 of 2, loss 3.0000, 10 s, 10 s left",
        "contrastive: epoch 2 of 2, loss 0.5000, 20 s, 0 s left",
    ]


def test_a_resumed_stage_estimates_by_its_own_pace(ticks: list[float], caplog: pytest.LogCaptureFixture) -> None:
    engine = trainer(dict.fromkeys(range(9), 1.0), ticks, each=1.0)
    StageProgress("coarse").attach(engine)

    def resume(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = 2, 4

    engine.add_event_handler(Events.STARTED, resume)
    with caplog.at_level(logging.INFO):
        engine.run([0, 0], max_epochs=4)
    assert logged(caplog)[0] == "coarse: epoch 3 of 4, loss 1.0000, 2 s, 2 s left"


def test_a_long_epoch_speaks_about_once_a_minute_where_no_bar_is_seen(
    ticks: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    engine = trainer(dict.fromkeys(range(6), 1.0), ticks, each=40.0)
    StageProgress("coarse").attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run([0] * 5, max_epochs=1)
    assert [line.split(",")[0] for line in logged(caplog)] == [
        "coarse: iteration 2 of 5",
        "coarse: iteration 4 of 5",
        "coarse: epoch 1 of 1",
    ]


def test_a_terminal_sees_a_bar_with_the_stage_and_all_its_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    engine = trainer(dict.fromkeys(range(7), 1.0))
    StageProgress("segmentation").attach(engine)
    engine.run([0, 0, 0], max_epochs=2)
    assert "segmentation: 100%" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()


def test_a_log_file_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    engine = trainer(dict.fromkeys(range(3), 1.0))
    StageProgress("segmentation").attach(engine)
    engine.run([0, 0], max_epochs=1)
    assert "%" not in capsys.readouterr().err


def test_an_error_closes_the_bar_and_goes_on_up() -> None:
    def fails(engine: Engine, batch: Any) -> None:
        raise ValueError("out of memory")

    engine = Engine(fails)
    handler = StageProgress("coarse")
    handler.attach(engine)
    with pytest.raises(ValueError, match="out of memory"):
        engine.run([0], max_epochs=1)
    assert handler.bar is None


def test_a_loss_that_is_no_number_ends_the_stage_before_a_checkpoint_of_it_is_written() -> None:
    engine, saved = trainer({1: 1.0, 2: 1.0, 3: float("nan"), 4: 1.0}), []
    StageProgress("coarse").attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: saved.append(engine.state.epoch))
    with pytest.raises(ValueError, match="coarse: the loss of epoch 2 is nan, training has diverged"):
        engine.run([0, 0], max_epochs=2)
    assert saved == [1]
