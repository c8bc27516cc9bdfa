"""The trainer of a stage, built in one form for all stages: learning rate, progress, checkpoint, batches."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.inferers import Inferer
from monai.optimizers import WarmupCosineSchedule
from torch import Tensor, nn

from scripts.runtime.processes import broadcast_buffers, shard
from scripts.runtime.progress import StageProgress
from scripts.runtime.resume import BestModel, Resume
from scripts.runtime.run_folder import RunPlace
from scripts.runtime.streams import Batch, BatchStream, StreamLoader


def batch_targets(batch: Batch, device: torch.device, non_blocking: bool, **_: Any) -> tuple[Tensor, Batch]:
    """MONAI's prepare_batch of all stages: images, and all else that is known of them."""
    moved = {key: value.to(device, non_blocking=non_blocking) for key, value in batch.items()}
    return moved.pop("image"), moved


def stage_trainer(
    stage: str,
    device: torch.device | str,
    max_epochs: int,
    epoch_length: int,
    batches: BatchStream,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_function: Callable[..., Tensor],
    inferer: Inferer,
    place: RunPlace,
    train_handlers: Sequence[Any] = (),
    best: BestModel | None = None,
    warmup_steps: int | None = None,
    prepare_batch: Callable[..., Any] = batch_targets,
    checkpoint: bool = True,
    num_workers: int = 0,
    schedule_epochs: int | None = None,
) -> SupervisedTrainer:
    """Trainer of a stage, which goes on from its last epoch.

    The name of the stage is also that of its checkpoint in the folder of the run (`place`). The learning rate rises to
    the optimizer's in `warmup_steps` iterations (None: one epoch), then falls as a cosine for `schedule_epochs` (None:
    `max_epochs`). The keeper of the best weights (`best`) belongs to the checkpoint. With `checkpoint=False` nothing is
    stored, and each run of the trainer goes on with the next batch: with a client of federated learning, which sets
    `max_epochs` anew for every round. `num_workers` processes make batches.
    """
    steps = (schedule_epochs or max_epochs) * epoch_length
    schedule = WarmupCosineSchedule(optimizer, warmup_steps or epoch_length, t_total=steps)
    state: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    if best is not None:
        state["best"] = best
    return SupervisedTrainer(
        device=torch.device(device),
        max_epochs=max_epochs,
        epoch_length=epoch_length,
        train_data_loader=StreamLoader(batches, num_workers),
        prepare_batch=prepare_batch,
        network=network,
        optimizer=optimizer,
        loss_function=loss_function,
        inferer=inferer,
        decollate=False,
        train_handlers=[
            LrScheduleHandler(schedule, print_lr=False, epoch_level=False),  # type: ignore[arg-type]
            StageProgress(stage),
            *train_handlers,
            *([Resume(f"{stage}.pt", state, place)] if checkpoint else ()),
            batches,  # after the checkpoint, which says with which of them the stage goes on
        ],
    )


def share_of_cases(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The validation cases of this process; MONAI's metric joins those of all.

    A process without a case takes the first one, without organs: it has no Dice, and the others do not wait for it.
    """
    without_organs: list[Mapping[str, Any]] = [{**case, "label_values": {"none": 0}} for case in cases[:1]]
    return shard(cases) or without_organs


class StageValidation(ValidationHandler):
    """MONAI's handler, which also validates after the last epoch, and not at all where there is no validation case."""

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validate_when_due)

    def _validate_when_due(self, engine: Engine) -> None:
        if self.validator is None or self.validator.state.epoch_length == 0:
            return
        if engine.state.epoch % self.interval == 0 or engine.state.epoch == engine.state.max_epochs:
            broadcast_buffers(getattr(self.validator, "network", None))
            self(engine)


def epochs_of_both_stages(contrastive: Sequence[int], segmentation: Sequence[int], epoch: Sequence[int]) -> int:
    """Epochs in which one stage alone sees the images of the contrastive and the segmentation stage together.

    Each number of images is given by its factors: epochs, iterations, queries and views of the contrastive stage;
    epochs, iterations and queries of the segmentation stage; iterations and images of an epoch of the lone stage.

    Example: 40 x 50 x 64 x 2 views and 80 x 50 x 64 queries are 160 epochs of 50 x 64 images.
    """
    return max(1, round((math.prod(contrastive) + math.prod(segmentation)) / math.prod(epoch)))
