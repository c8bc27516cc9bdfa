"""The trainer of a stage, built in one form for all stages: learning rate, progress, checkpoint, batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.inferers import Inferer
from monai.optimizers import WarmupCosineSchedule
from torch import Tensor, nn

from scripts.runtime.progress import StageProgress
from scripts.runtime.resume import BestModel, Resume
from scripts.runtime.run_folder import RunPlace
from scripts.runtime.streams import Batch, BatchStream, GoOn, stream_loader


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
) -> SupervisedTrainer:
    """Trainer of a stage, which goes on from its last epoch.

    Args:
        stage: its name, and that of its checkpoint in the folder of the run.
        device: where to train.
        max_epochs: epochs.
        epoch_length: iterations in an epoch.
        batches: endless stream of ready-made batches.
        network: what is trained, on the device.
        optimizer: its optimizer; the rate rises to the optimizer's for a while, then falls as a cosine.
        loss_function: of the network's output and the targets.
        inferer: precision of the forward pass.
        place: folder of the run.
        train_handlers: further handlers.
        best: keeper of the best weights, whose state belongs to the checkpoint.
        warmup_steps: iterations in which the rate rises; None: one epoch.
        prepare_batch: what the network and the loss get of a batch.
        checkpoint: False: nothing is stored, and each run of the trainer goes on with the next batch (federated).
        num_workers: processes that make batches; they pay where a GPU would wait for the CPU.
    """
    schedule = WarmupCosineSchedule(optimizer, warmup_steps or epoch_length, t_total=max_epochs * epoch_length)
    state: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    if best is not None:
        state["best"] = best
    return SupervisedTrainer(
        device=torch.device(device),
        max_epochs=max_epochs,
        epoch_length=epoch_length,
        train_data_loader=stream_loader(batches, num_workers),
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
            Resume(f"{stage}.pt", state, batches, place=place) if checkpoint else GoOn(batches),
        ],
    )
