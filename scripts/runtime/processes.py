"""Several processes, one for each GPU: rank, world size, shards, and a network that they train together.

Barriers are those of `ignite.distributed`; its `auto_model` moves a network to the GPU whatever device was chosen.
"""

import atexit
import gc
import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import get_worker_info

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long processes wait for one that checks data or validates alone; torchrun ends them at once if it fails."""


def local_device() -> torch.device:
    """The GPU of this process, by its place among those that torchrun or srun started on this machine; else the CPU."""
    count = torch.cuda.device_count()
    if not count:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0) % count)
    torch.cuda.set_device(device)
    return device


def launched() -> tuple[int, int]:
    """Rank and number of the processes that torchrun or srun started, whether or not they have joined."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0
    return int(rank), int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)


def join_processes() -> torch.device:
    """Join the processes of torchrun, if there are any; return the device of this one. ValueError: too few GPUs."""
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if 0 < gpus <= local:
        raise ValueError(f"process {local} of this host has no GPU of its own: give torchrun --nproc_per_node {gpus}.")
    device = local_device()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
        atexit.register(_leave_processes)
        if not is_first_process():
            logging.disable(logging.WARNING)  # one log is enough
    return device


def _leave_processes() -> None:
    if dist.is_initialized():
        # What still holds the group is collected first: gloo's threads may otherwise outlive it and abort.
        gc.collect()
        dist.destroy_process_group()


def world_size() -> int:
    """Processes that train together; 1 also inside of a loader process, which works for itself."""
    joined = dist.is_available() and dist.is_initialized() and get_worker_info() is None
    return dist.get_world_size() if joined else 1


def rank() -> int:
    """Number of this process among those that train together, from 0 on."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first_process() -> bool:
    """Whether this is the process that writes what is written once."""
    return rank() == 0


def shard(items: Sequence[T]) -> list[T]:
    """Every k-th item: the share of this process of work that is done once."""
    return list(items[rank() :: world_size()])


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device and, with several processes, let them share gradients and batch statistics.

    Batch statistics are those of the joint batch on GPUs; on CPUs, where PyTorch has no such layer, each process
    normalises by its own part and the running statistics are those of the first one.
    """
    network = network.to(device)
    if world_size() == 1:
        return network
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    devices = [device] if device.type == "cuda" else None
    # A frozen encoder gets no gradients, for which the others would wait.
    unused = bool(getattr(network, "frozen_encoder", False))
    return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=unused)


def unwrap(item: Any) -> Any:
    """What a checkpoint names: the network itself, without the wrapping for several processes."""
    return item.module if isinstance(item, DistributedDataParallel) else item


def broadcast_buffers(item: Any) -> None:
    """Give every process the first one's running statistics of a network."""
    if world_size() > 1 and isinstance(item, nn.Module):
        for buffer in unwrap(item).buffers():
            dist.broadcast(buffer, 0)
