"""Fixtures of the tests of the preparation."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from btcv_cohort import write_btcv


@pytest.fixture(autouse=True)
def undisturbed_errors() -> Iterator[None]:
    """Every command decides how errors are shown, for the whole process."""
    hook = sys.excepthook
    yield
    sys.excepthook = hook


@pytest.fixture(scope="session")
def btcv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole cohort; not to be changed."""
    return write_btcv(tmp_path_factory.mktemp("btcv"))


@pytest.fixture
def own_btcv(btcv: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(btcv, tmp_path / "RawData"))
