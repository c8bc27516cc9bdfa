"""The weight of organs in the loss during a stage: high at first, so that small organs appear, 1 at the end."""

from __future__ import annotations

from ignite.engine import Engine, Events

from scripts.losses.partial_labels import PartialDiceCELoss
from scripts.training.progress import total_iterations


class OrganWeightDecay:
    """Handler of a trainer: lower the organ weight of its loss geometrically to 1 (our choice).

    With weight w at the start, iteration i of n is trained at w^(1 - i / n). A high weight makes a network predict
    organs of a few thousandths of the volume within minutes, but too large; the low one at the end calibrates them.

    Example: from 16, a quarter of the stage later the weight is 8, after half 4, at the end 1.

    Args:
        loss: loss whose weight is changed; it starts with the weight that it was made with.
    """

    def __init__(self, loss: PartialDiceCELoss) -> None:
        self.loss = loss

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.weigh)

    def weigh(self, engine: Engine) -> None:
        """Set the weight of this iteration; it depends on its number only, so a resumed stage goes on with it."""
        done = (engine.state.iteration - 1) / max(1, total_iterations(engine))
        self.loss.weigh_organs(self.loss.organ_weight ** (1.0 - done))
