"""Reference labels: the values of a file become the class indices of the config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_dataset import AFFINE, save

from scripts.preprocessing.organ_labels import LoadOrganLabelsd, load_organ_labels

ORGANS = ["spleen", "liver", "aorta"]


def load(tmp_path: Path, values: list[float], dtype: type = np.uint8, **case: Any) -> list[int]:
    """Class indices of a label file with these voxels in a row."""
    voxels = np.array(values, dtype).reshape(-1, 1, 1)
    loaded = load_organ_labels({"label": save(tmp_path / "label.nii.gz", voxels), **case}, ORGANS)
    assert loaded.dtype == torch.uint8
    return [int(value) for value in loaded.flatten()]


def test_the_values_of_the_file_become_positions_in_the_list_of_organs(tmp_path: Path) -> None:
    # As in AMOS: liver is 6 and spleen 1 there; 15 is an organ that the config does not name.
    found = load(tmp_path, [0, 1, 6, 15, 8], label_values={"liver": 6, "spleen": 1, "aorta": 8})
    assert found == [0, 1, 2, 0, 3]


def test_without_a_table_the_values_are_class_indices_already(tmp_path: Path) -> None:
    assert load(tmp_path, [0, 1, 2, 3, 4]) == [0, 1, 2, 3, 0]


def test_an_organ_without_a_value_in_the_file_stays_background(tmp_path: Path) -> None:
    assert load(tmp_path, [0, 1, 2, 3], label_values={"spleen": 3}) == [0, 0, 0, 1]


def test_two_organs_may_swap_their_values(tmp_path: Path) -> None:
    assert load(tmp_path, [1, 2], label_values={"spleen": 2, "liver": 1}) == [2, 1]


def test_several_values_may_be_one_organ(tmp_path: Path) -> None:
    # As in KiTS, where kidney, tumour and cyst are 1, 2 and 3.
    assert load(tmp_path, [0, 1, 2, 3, 4], label_values={"liver": [1, 3], "aorta": 4}) == [0, 2, 0, 2, 3]


def test_a_case_of_a_cohort_without_any_organ_of_the_config_is_all_background(tmp_path: Path) -> None:
    assert load(tmp_path, [0, 1, 2, 3], label_values={}) == [0, 0, 0, 0]


def test_a_file_of_floats_is_rounded(tmp_path: Path) -> None:
    assert load(tmp_path, [0.0, 0.9999999, 2.0000002], dtype=np.float32) == [0, 1, 2]


def test_the_label_map_keeps_the_grid_of_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "label.nii.gz", np.zeros((4, 3, 2), np.uint8))
    loaded = LoadOrganLabelsd("label", ORGANS)({"label": path, "case": "x"})
    assert loaded["label"].shape == (1, 4, 3, 2)
    assert np.array_equal(loaded["label"].affine.numpy(), AFFINE)
    assert loaded["case"] == "x"


def test_an_unlabelled_case_passes_unchanged() -> None:
    assert LoadOrganLabelsd("label", ORGANS)({"image": "scan", "case": "x"}) == {"image": "scan", "case": "x"}


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere"):
        load_organ_labels({"label": str(tmp_path / "nowhere.nii.gz")}, ORGANS)
