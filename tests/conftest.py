"""What several tests share: settings of hypothesis, a tiny synthetic abdomen, and tiny two-stage predictors.

The fixtures import what they need: of several pytest processes the first runs no test, and shall not wait for MONAI.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tiny_predictor import MakePredictor

    from scripts.preprocessing.slice_store import SliceStore

gc.disable()  # until the tests begin: imports leave no garbage worth looking for


def pytest_collection_finish() -> None:
    """What is there by now stays: to look through a million objects for garbage takes .4 s, again and again."""
    gc.freeze()
    gc.enable()


# A failure that comes and goes helps nobody: the examples are the same in every run. Time limits are the suite's.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def no_log_to_streams_of_other_tests() -> None:
    """A workflow that a test ran in this process logs to the streams of that test, which are closed by now."""
    for logger in (logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)):
        for handler in logger.handlers[:]:
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic abdomen of very large voxels: 3 training cases, one of them contoured in part, and 1 for testing."""
    from development.phantom.dataset import write_phantom_dataset

    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(str(folder), 3, 0, 1, in_plane_spacing=(6, 7), slice_spacing=(8, 10), partial_fraction=0.34)
    return folder


@pytest.fixture(scope="session")
def phantom_cases(phantom_dir: Path) -> list[dict[str, Any]]:
    """Its training cases."""
    from development.phantom.tissues import ORGANS
    from scripts.dataset.datalists import load_cases

    return load_cases(str(phantom_dir), "training", list(ORGANS))


@pytest.fixture(scope="session")
def phantom_store(phantom_cases: Sequence[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> SliceStore:
    """Their slices on a working grid of 7 x 7 x 10 mm."""
    from development.phantom.tissues import ORGANS
    from scripts.preprocessing.slice_store import SliceStore

    phases = ["portal_venous", "non_contrast"]
    store = SliceStore(list(ORGANS), [7.0, 7.0, 10.0], str(tmp_path_factory.mktemp("slices")), phases)
    store.prepare(phantom_cases)
    return store


@pytest.fixture(name="make_predictor")
def _make_predictor() -> MakePredictor:
    """A two-stage predictor for two organs with tiny, untrained networks, in evaluation mode."""
    from tiny_predictor import make_predictor

    return make_predictor
