"""When training is validated, and by whom: every so many epochs, always after the last one, by all processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from scripts.runtime.processes import own_share, same_buffers


def share_of_cases(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The validation cases of this process; MONAI's metric joins those of all.

    A process without a case of its own, because there are fewer than processes, takes the first one without any organ:
    its Dice does not exist and counts for nothing, and nobody waits for a process that has nothing to say.
    """
    without_organs: list[Mapping[str, Any]] = [{**case, "label_values": {"none": 0}} for case in cases[:1]]
    return own_share(cases) or without_organs


class StageValidation(ValidationHandler):
    """MONAI's handler, which also validates after the last epoch: a run shorter than the interval still has a result.

    Without a validation case there is nothing to do (a client may fine-tune on all that it has).

    Args:
        validator: engine that validates.
        interval: epochs between two validations.
    """

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validate_when_due)

    def _validate_when_due(self, engine: Engine) -> None:
        if self.validator is None or self.validator.state.epoch_length == 0:
            return
        if engine.state.epoch % self.interval == 0 or engine.state.epoch == engine.state.max_epochs:
            if self.validator is not None:
                same_buffers(getattr(self.validator, "network", None))
            self(engine)


def epochs_of_both_stages(contrastive: Sequence[int], segmentation: Sequence[int], epoch: Sequence[int]) -> int:
    """Epochs in which one stage alone sees the images of the contrastive and the segmentation stage together.

    A baseline that leaves the contrastive stage out would otherwise be compared after fewer images.

    Args:
        contrastive: factors of the images of the contrastive stage: epochs, iterations, queries, views.
        segmentation: factors of those of the segmentation stage: epochs, iterations, queries.
        epoch: factors of the images of one epoch of the lone stage: iterations, images in a batch.

    Example: 40 x 50 x 64 x 2 views and 80 x 50 x 64 queries are 160 epochs of 50 x 64 images.

    >>> epochs_of_both_stages([40, 50, 64, 2], [80, 50, 64], [50, 64])
    160
    """
    return max(1, round((math.prod(contrastive) + math.prod(segmentation)) / math.prod(epoch)))
