"""Fixtures of the workflow tests: a tiny data set, and one finished training on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.utils import set_determinism
from tiny_workflows import TINY_TRAINING, TRAIN, run

from development.phantom.dataset import write_phantom_dataset


@pytest.fixture(autouse=True)
def undisturbed_process() -> Iterator[None]:
    """Workflows fix random numbers and the way in which errors are shown, for the whole process."""
    hook, paths, threads = sys.excepthook, list(sys.path), torch.get_num_threads()
    yield
    sys.excepthook, sys.path[:] = hook, paths
    torch.set_num_threads(threads)
    set_determinism(seed=None)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic abdomens of very large voxels: 4 for training, 1 for validation, 2 for testing."""
    folder = tmp_path_factory.mktemp("tiny_data")
    write_phantom_dataset(str(folder), 4, 1, 2, in_plane_spacing=(9, 10), slice_spacing=(10, 12))
    return folder


@pytest.fixture(scope="session")
def training_settings(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a tiny training; its slices are cached for all tests."""
    return {**TINY_TRAINING, "dataset_dir": str(tiny_data), "cache_dir": str(tmp_path_factory.mktemp("slices"))}


@pytest.fixture(scope="session")
def trained(training_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted training through all stages."""
    folder = tmp_path_factory.mktemp("trained")
    run("training", TRAIN, output_dir=str(folder), **training_settings)
    return folder
