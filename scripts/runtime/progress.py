"""Progress of a stage: a bar with an ETA on a terminal; in a log file one line per epoch, which has the ETA too."""

import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scripts.runtime.processes import is_first_process

logger = logging.getLogger(__name__)

QUIET_SECONDS = 60.0  # a log file without a bar gets a line at least this often, however long an epoch takes

LISTENERS: list[Callable[[str, int, float], None]] = []
"""Called with stage, epoch and mean loss whenever a stage reports; experiment tracking puts itself in here."""


def readable_duration(seconds: float) -> str:
    """Seconds as a person says them: 12 s, 1 min 40 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


class StageProgress:
    """Handler of a trainer; the name of the stage is shown before the bar."""

    def __init__(self, stage: str) -> None:
        self.stage, self.shown = stage, ExitStack()
        self.bar: tqdm[Any] | None = None
        self.losses: list[Tensor] = []
        self.started, self.spoken, self.first = 0.0, 0.0, 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _open(self, engine: Engine) -> None:
        if self.bar is not None:
            return
        self.first, self.losses = engine.state.iteration, []
        self.started = self.spoken = time.monotonic()
        terminal = sys.stderr.isatty() and is_first_process()
        count = total_iterations(engine)
        bar: tqdm[Any] = tqdm(total=count, initial=self.first, desc=self.stage, unit="it", disable=not terminal)
        self.bar = self.shown.enter_context(bar)
        if terminal:  # log lines go above the bar instead of through it
            self.shown.enter_context(logging_redirect_tqdm())

    def _advance(self, engine: Engine) -> None:
        output = engine.state.output
        first = output[0] if isinstance(output, list) else output
        if isinstance(first, dict) and "loss" in first:
            self.losses.append(first["loss"].detach())  # read once an epoch: a GPU need not wait
        if self.bar is None:
            return
        self.bar.update()
        epoch_ends = engine.state.iteration % int(engine.state.epoch_length or 1) == 0
        if self.bar.disable and not epoch_ends and time.monotonic() - self.spoken > QUIET_SECONDS:
            self._say(engine, f"iteration {engine.state.iteration} of {total_iterations(engine)}")

    def _report(self, engine: Engine) -> None:
        if self.losses:
            mean = float(torch.stack(self.losses).double().mean())
            if not math.isfinite(mean):  # before a checkpoint of it replaces the last good one
                lost = f"{self.stage}: the loss of epoch {engine.state.epoch} is {mean}, training has diverged"
                raise ValueError(f"{lost}. Use --precision float32, or begin anew with a lower learning rate.")
            self._say(engine, f"epoch {engine.state.epoch} of {engine.state.max_epochs}, loss {mean:.4f}")
            for listener in LISTENERS:
                listener(self.stage, engine.state.epoch, mean)
            self.losses = []

    def _say(self, engine: Engine, what: str) -> None:
        """Log a line with the time taken and the time left, at the pace so far."""
        self.spoken = time.monotonic()
        if not is_first_process():
            return
        taken = self.spoken - self.started
        left = taken / max(1, engine.state.iteration - self.first) * (total_iterations(engine) - engine.state.iteration)
        logger.info("%s: %s, %s, %s left", self.stage, what, readable_duration(taken), readable_duration(left))

    def _close(self, engine: Engine) -> None:
        self.shown.close()
        self.bar = None

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error


def total_iterations(engine: Engine, epochs: int | None = None) -> int:
    """Iterations of the whole stage, which has so many epochs (None: those of the engine)."""
    return int(engine.state.epoch_length or 0) * int(epochs or engine.state.max_epochs or 0)
