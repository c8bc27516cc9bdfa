"""The joint batch of several processes: the rows of all on each; sizes may differ, gradients go back to their process.

Every function is to be called by all processes of the default group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from scripts.runtime.processes import rank, world_size


def place_in_joint_batch(rows: int, device: torch.device) -> tuple[slice, int]:
    """Which rows of the joint batch, in order of rank, are those of this process, and how many it has."""
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=device)
    sizes[rank()] = rows
    dist.all_reduce(sizes)
    counts = sizes.tolist()
    start = sum(counts[: rank()])
    return slice(start, start + rows), sum(counts)


def join_rows(rows: Tensor, own: slice, total: int) -> Tensor:
    """The joint batch [total, ...] of rows [own, ...], without a gradient."""
    # A sum of zero-padded parts instead of all_gather, which wants equal batch sizes on every process.
    joint = rows.new_zeros(total, *rows.shape[1:])
    joint[own] = rows.detach()
    dist.all_reduce(joint)
    return joint


class JoinRows(torch.autograd.Function):
    """`join_rows` with the gradient that all_gather lacks: every process adds what its anchors ask of our rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, own: slice, total: int) -> Tensor:
        """Join."""
        ctx.own = own
        return join_rows(rows, own, total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Sum the gradients of all processes, and take those of our rows."""
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.own], None, None


def shown_as_mean(loss: Tensor) -> Tensor:
    """A loss with the value of the mean over processes and the gradient of this process's."""
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return loss + (mean / world_size() - loss.detach())
