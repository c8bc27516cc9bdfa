"""When training is validated: every so many epochs, and always after the last one."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler


class StageValidation(ValidationHandler):
    """MONAI's handler, which also validates after the last epoch: a run shorter than the interval still has a result.

    Args:
        validator: engine that validates.
        interval: epochs between two validations.
    """

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validate_when_due)

    def _validate_when_due(self, engine: Engine) -> None:
        if engine.state.epoch % self.interval == 0 or engine.state.epoch == engine.state.max_epochs:
            self(engine)
