"""Precision: bfloat16 where it is faster, float32 elsewhere, and channels-last memory for 2D networks.

Measured with development.benchmarks.precision: on a CPU with AMX autocast is nearly twice as fast as float32; with
AVX-512's bfloat16 instructions alone it takes 1.4 times as long, and without any 20 times. "auto" asks the hardware.
"""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_precision(device: torch.device, precision: str = "auto") -> torch.dtype:
    """The dtype in which networks compute on this device; ValueError if the precision is unknown."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is unknown: choose one of {', '.join(PRECISIONS)}.")
    faster = precision == "bfloat16"
    if precision == "auto" and device.type == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    elif precision == "auto":
        faster = device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return torch.bfloat16 if faster else torch.float32


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """Autocast context of the resolved precision; losses outside of it stay in float32."""
    dtype = resolve_precision(device, precision)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)


class PrecisionInferer(Inferer):
    """Run a network under autocast of the resolved precision, on plain tensors; bfloat16 results become float32.

    MONAI's engines autocast on CUDA only; an inferer does it on every device. With `channels_last` 4D inputs are laid
    out channels-last, which convolutions prefer.
    """

    def __init__(self, precision: str = "auto", channels_last: bool = True) -> None:
        super().__init__()
        resolve_precision(torch.device("cpu"), precision)
        self.precision, self.channels_last = precision, channels_last

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Apply the network."""
        plain = inputs.as_subclass(torch.Tensor)
        if self.channels_last and plain.dim() == 4:
            plain = plain.contiguous(memory_format=torch.channels_last)
        with autocast(plain.device, self.precision):
            outputs = network(plain, *args, **kwargs)
        return outputs.float() if isinstance(outputs, Tensor) and outputs.dtype is torch.bfloat16 else outputs
