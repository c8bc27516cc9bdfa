"""Choose the torch for a machine: the one that is there, or the build to install. Standard library only.

The pin is the torch line of requirements.txt, and nowhere else. Several builds carry its number: with its libraries
the CUDA build is about fifteen times the size of the CPU's, too much for a machine without an NVIDIA GPU.
"""

from __future__ import annotations

import re
from typing import NamedTuple

OLDEST_TORCH = (2, 8)  # what the pinned monai asks for
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
# Prints the version that pip knows torch by, and the folders that hold it and what it imports.
LOOK_FOR_TORCH = """
import importlib.metadata, json, pathlib, sys, torch
folders = [str(pathlib.Path(torch.__file__).parents[1])]
folders += [f for f in sys.path if f.endswith(("site-packages", "dist-packages")) and f not in folders]
print(json.dumps([importlib.metadata.version("torch"), folders]))
"""


class InstalledTorch(NamedTuple):
    """A torch that an interpreter can import: its version, and the import folders it needs."""

    version: str
    folders: list[str]


class TorchAttempt(NamedTuple):
    """One way to install torch: what to tell the user, and pip's arguments."""

    announcement: str
    pip_arguments: list[str]


def pinned_torch(requirements: str) -> str:
    """Return the torch line of a requirements file, such as `torch==2.13.0`."""
    for line in requirements.splitlines():
        if re.match(r"torch\s*==", line):
            return line.split("#")[0].strip()
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


def is_reusable(torch: InstalledTorch | None) -> bool:
    """Whether a torch found outside the `.venv` is recent enough for the pinned packages."""
    release = re.match(r"(\d+)\.(\d+)", torch.version) if torch else None
    return release is not None and (int(release[1]), int(release[2])) >= OLDEST_TORCH


def with_torch(requirements: str, installed: InstalledTorch) -> str:
    """Replace the torch pin by the version in place, so that no package pulls in another torch."""
    return requirements.replace(pinned_torch(requirements), f"torch=={installed.version}")
