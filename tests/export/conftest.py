"""What the export tests share: a bundle folder with tiny weights, and a volume."""

from __future__ import annotations

import pytest
import torch
from tiny_bundle import TinyBundle, make_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    """Real configs with small numbers, and weights that were never trained."""
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def volume() -> torch.Tensor:
    """A volume in HU on a working grid, [1, 1, x, y, z]."""
    return torch.randn(1, 1, 34, 30, 8, generator=torch.Generator().manual_seed(0)) * 200
