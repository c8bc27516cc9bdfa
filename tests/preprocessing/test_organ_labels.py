"""What a file holds becomes what a network reads: values become class indices, Hounsfield units become [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_dataset import AFFINE, save

from scripts.preprocessing.intensity import RandomIntensity, check_window, soft_tissue_window
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


@pytest.mark.parametrize("other", [2, 300, -1])
def test_a_value_that_the_data_set_does_not_declare_is_no_background(other: int, tmp_path: Path) -> None:
    # The liver is 1, and a tumour in it 2: as background it would be scored as an error of whoever finds the liver.
    declared = {"label_values": {"liver": 1}, "known_values": [0, 1, 9]}
    assert load(tmp_path, [0, 1, 9], np.int16, **declared) == [0, 2, 0]
    with pytest.raises(ValueError, match=rf"label.nii.gz: label values that .*\({other}, expected among: 0, 1, 9\)"):
        load(tmp_path, [0, 1, other], np.int16, **declared)


@pytest.mark.parametrize("odd", [1.5, float("nan")])
def test_a_label_that_was_interpolated_is_refused_and_not_rounded(odd: float, tmp_path: Path) -> None:
    # Between background and liver (2) an interpolated label has values near 1, which would be scored as the spleen.
    declared = {"label_values": {"spleen": 1, "liver": 2}, "known_values": [0, 1, 2]}
    assert load(tmp_path, [0, 1, 2], np.float32, **declared) == [0, 1, 2]
    with pytest.raises(ValueError, match=rf"label.nii.gz: .* that are no integers \(1 voxels, such as {odd}\)"):
        load(tmp_path, [0, 1, odd], np.float32, **declared)


def test_only_contoured_organs_are_loaded_to_be_scored(tmp_path: Path) -> None:
    # What is there of an organ that does not count as contoured may be a part of it: it is no truth to score against.
    path = save(tmp_path / "label.nii.gz", np.array([0, 1, 2, 3], np.uint8).reshape(-1, 1, 1))
    case = {"label": path, "label_values": {"spleen": 1, "liver": 2, "aorta": 3}, "annotated": ["spleen", "aorta"]}
    assert LoadOrganLabelsd("label", ORGANS)(case)["label"].flatten().tolist() == [0, 1, 0, 3]


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


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_soft_tissue_window_maps_its_ends_to_0_and_1_and_clips_beyond() -> None:
    hu = torch.tensor([-1024.0, -175.0, 50.0, 275.0, 1000.0])
    assert soft_tissue_window(hu, -175.0, 275.0).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("window", [[275, -175], [0, 0], [0], [0, 1, 2]])
def test_a_window_that_is_none_is_refused_with_an_example(window: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[lower, upper\] in HU, for example \[-175, 275\]"):
        check_window(window)


def test_a_window_may_come_in_integers() -> None:
    assert check_window([-175, 275]) == (-175.0, 275.0)


def test_variation_of_no_strength_changes_nothing() -> None:
    patches = torch.rand(3, 2, 8, 8, generator=seeded())
    assert torch.allclose(RandomIntensity(0.0, 0.0, 0.0)(patches, seeded()), patches, atol=1e-6)


@given(st.integers(0, 2**20), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_varied_patches_stay_within_0_and_1(seed: int, contrast: float, brightness: float, noise: float) -> None:
    patches = torch.rand(2, 1, 4, 4, 4, generator=seeded(seed))
    varied = RandomIntensity(contrast, brightness, noise)(patches, seeded(seed))
    assert varied.shape == patches.shape
    assert float(varied.min()) >= 0 and float(varied.max()) <= 1


def test_contrast_turns_about_the_middle_of_the_window() -> None:
    # (p - .5) * f + .5 with f from [.5, 1.5]: .5 stays, and 0.4 and 0.6 stay mirror images.
    patches = torch.tensor([0.4, 0.5, 0.6]).expand(8, 1, 3)
    varied = RandomIntensity(contrast=0.5, brightness=0.0, noise=0.0)(patches, seeded())
    assert torch.allclose(varied[..., 1], torch.tensor(0.5))
    assert torch.allclose(varied[..., 0] + varied[..., 2], torch.tensor(1.0))
    factor = (varied[..., 2] - 0.5) / 0.1
    assert float(factor.min()) >= 0.5 - 1e-5 and float(factor.max()) <= 1.5 + 1e-5
    assert len(factor.unique()) == 8, "every patch has a draw of its own"


def test_brightness_shifts_a_patch_as_a_whole() -> None:
    varied = RandomIntensity(contrast=0.0, brightness=0.2, noise=0.0)(torch.full((8, 1, 4, 4), 0.5), seeded())
    assert float(varied.flatten(1).std(dim=1).max()) < 1e-6
    shift = varied[:, 0, 0, 0] - 0.5
    assert float(shift.abs().max()) <= 0.2 and float(shift.min()) < 0 < float(shift.max())


def test_the_same_seed_gives_the_same_variation_and_another_seed_another() -> None:
    patches = torch.rand(2, 1, 8, 8, generator=seeded())
    vary = RandomIntensity()
    assert torch.equal(vary(patches, seeded(3)), vary(patches, seeded(3)))
    assert not torch.equal(vary(patches, seeded(3)), vary(patches, seeded(4)))
