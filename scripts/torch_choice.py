"""Choose the build of torch to install on a machine. Standard library only.

The pin is the torch line of requirements.txt. The CUDA build is 15 times the CPU's: too much without an NVIDIA GPU.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"


class TorchAttempt(NamedTuple):
    """One way to install torch: what to tell the user, and pip's arguments."""

    announcement: str
    pip_arguments: list[str]


def pinned_torch(requirements: str) -> str:
    """Return the torch line of a requirements file, such as `torch==2.13.0`."""
    if line := re.search(r"^torch\s*==[^#\n]*", requirements, re.M):
        return line[0].strip()
    raise ValueError(f"the requirements have no line `torch==VERSION`; put it back in: {requirements!r}")


def torch_attempts(pin: str, system: str, has_gpu: bool, override: str) -> list[TorchAttempt]:
    """List the ways to install the pinned torch on this machine; the next is tried when one fails.

    `system` is that of `platform.system()`, `has_gpu` whether an NVIDIA GPU answers, and `override` the user's own
    choice (AGSCL_TORCH), a pip requirement or a wheel's path; empty for none.
    """
    if override:
        return [TorchAttempt(f"{override}, from AGSCL_TORCH", [override])]
    if has_gpu:
        return [TorchAttempt(f"{pin} for the NVIDIA GPU (about 3 GB, 3 to 10 minutes)", [pin])]
    if system == "Darwin":
        return [TorchAttempt(f"{pin} (about 0.1 GB, 1 minute)", [pin])]
    # Short limits, since where this index cannot be reached the next attempt should not wait for it.
    cpu_only = [pin, "--index-url", CPU_BUILDS, "--timeout", "10", "--retries", "0"]
    return [
        TorchAttempt(f"{pin}, CPU build (about 0.2 GB, 1 to 2 minutes)", cpu_only),
        TorchAttempt(f"{pin} from pip's default index (if a CUDA build: about 3 GB, 3 to 10 minutes)", [pin]),
    ]
