"""Cheaper training steps on a CPU: one memory layout, freed memory is reused, a faster backward pass of PReLU."""

import ctypes
import sys
from typing import Any, cast

import torch
from torch import Tensor, nn

MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_MAX = -1, -4  # parameters of mallopt(3)


def for_training(network: nn.Module, device: torch.device) -> nn.Module:
    """Make a 3D network on its device quick to train; parameters and their names stay.

    Channels-last is a quarter faster on a CPU. There PReLUs of one slope get another backward, freed memory is kept.
    """
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if device.type == "cpu":
        keep_freed_memory()
        for module in network.modules():
            if type(module) is nn.PReLU and module.num_parameters == 1:
                module.__class__ = OneSlopePReLU
    return network


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor; by default the kernel clears a large tensor's pages each time.

    A fifth of a step's time, a quarter of a scan's. Sizes repeat: memory hardly grows. Needs glibc, else does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MALLOPT_MMAP_MAX, 0)
        mallopt(MALLOPT_TRIM_THRESHOLD, 2**31 - 1)


class _OneSlope(torch.autograd.Function):
    """y = x where x > 0, else a x; dL/da is the sum of x dL/dy where x <= 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return torch.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        of_slope = x.clamp(max=0).mul_(gradient).sum().reshape(1)
        return torch.ops.aten.leaky_relu_backward(gradient, x, float(slope), False), of_slope


class OneSlopePReLU(nn.PReLU):
    """PReLU of one slope with an eighth of the time in the backward pass on a CPU; its sums' last digits differ."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return cast("Tensor", _OneSlope.apply(x, self.weight))  # type: ignore[no-untyped-call]
