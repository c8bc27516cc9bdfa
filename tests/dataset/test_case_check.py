"""Every way in which the files of a case can be broken, by files that are, and what the user is told about each."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_dataset import (
    AFFINE,
    ORGANS,
    assert_only_problem,
    ct_voxels,
    label_voxels,
    refusal,
    rewrite_header,
    save,
    truncate,
    write_case,
)

from scripts.dataset.case_check import check_case
from scripts.dataset.check import check_dataset
from scripts.dataset.problems import DatasetError, Kind
from scripts.dataset.volume_file import voxel_hash


def test_values_of_organs_that_the_config_does_not_list_are_no_problem(tmp_path: Path) -> None:
    label = label_voxels()
    label.flat[10] = 7
    assert check_dataset({"training": [write_case(tmp_path, "a", label=label)]}, ORGANS, progress=False).warnings == []


def test_a_missing_file_is_reported_for_image_and_label(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a")
    error = refusal(write_case(tmp_path, "b", seed=1), {**case, "image": str(tmp_path / "gone.nii.gz")})
    assert_only_problem(error, Kind.MISSING_FILE, str(tmp_path / "gone.nii.gz"), "file does not exist (1)")
    error = refusal(write_case(tmp_path, "b", seed=1), {**case, "label": str(tmp_path / "gone.nii.gz")})
    assert_only_problem(error, Kind.MISSING_FILE, str(tmp_path / "gone.nii.gz"), "file does not exist (1)")


def truncate_inside_the_compression(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:400]))


def overwrite_with_text(path: Path) -> None:
    path.write_text("<html>404 not found</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, truncate_inside_the_compression, overwrite_with_text, empty])
def test_a_damaged_file_is_reported_as_unreadable(tmp_path: Path, damage: Any) -> None:
    case = write_case(tmp_path, "a")
    damage(Path(case["image"]))
    assert_only_problem(refusal(case), Kind.UNREADABLE, case["image"], "file cannot be read (1)")


def test_a_4d_an_rgb_and_a_2d_image_are_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", image=ct_voxels(shape=(6, 5, 4, 2)))
    assert_only_problem(refusal(case), Kind.NOT_A_VOLUME, case["image"], "greyscale with shape (6, 5, 4, 2)")
    colours = np.zeros((6, 5, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    case = write_case(tmp_path, "a", image=colours)
    assert_only_problem(refusal(case), Kind.NOT_A_VOLUME, case["image"], "RGB with shape (6, 5, 4)")
    case = write_case(tmp_path, "a", image=ct_voxels(shape=(6, 5)))
    assert_only_problem(refusal(case), Kind.NOT_A_VOLUME, case["image"], "greyscale with shape (6, 5)")


def test_a_label_of_another_shape_is_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", label=label_voxels((6, 5, 3)))
    assert_only_problem(refusal(case), Kind.GRID, case["label"], "shape (6, 5, 3), expected the image's (6, 5, 4)")


def test_a_label_of_another_affine_is_reported_but_rounding_is_not(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a")
    moved = AFFINE.copy()
    moved[0, 3] = 1.5
    save(Path(case["label"]), label_voxels(), moved)
    assert_only_problem(refusal(case), Kind.GRID, case["label"], "a corner 1.5 mm from the image's")
    moved[0, 3] = 1e-3
    save(Path(case["label"]), label_voxels(), moved)
    check_dataset({"training": [case]}, ORGANS, progress=False)


def test_a_flipped_label_is_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a")
    save(Path(case["label"]), label_voxels(), np.diag([-2.0, 2.0, 3.0, 1.0]))
    assert_only_problem(refusal(case), Kind.GRID, case["label"], "a corner 20 mm from the image's")


def test_a_value_that_the_dataset_does_not_declare_is_reported(tmp_path: Path) -> None:
    label = label_voxels()
    label.flat[10] = 9
    case = write_case(tmp_path, "a", label=label)
    assert_only_problem(refusal(case), Kind.UNKNOWN_VALUE, case["label"], "9, expected among: 0, 1, 2, 7")


def test_the_voxels_of_an_organ_with_several_values_are_added_up(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", label_values={"spleen": [1, 2], "liver": 7})
    assert check_case(case, ORGANS).organ_voxels == {"spleen": 3, "liver": 0}


@pytest.mark.parametrize("odd", [1.5, np.nan, np.inf])
def test_a_label_value_that_is_no_integer_is_reported(tmp_path: Path, odd: float) -> None:
    label = label_voxels().astype(np.float32)
    label.flat[10] = odd
    case = write_case(tmp_path, "a", label=label)
    good = write_case(tmp_path, "b", seed=1)
    assert_only_problem(refusal(case, good), Kind.NOT_INTEGER, case["label"], f"1 voxels, such as {odd:g}")


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_are_reported(tmp_path: Path, odd: float) -> None:
    image = ct_voxels().astype(np.float32)
    image.flat[5] = odd
    case = write_case(tmp_path, "a", image=image)
    assert_only_problem(refusal(case), Kind.NOT_FINITE, case["image"], "1 of 120 voxels")


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [(0, 1, "normalised"), (-1, 1, "normalised"), (0, 255, "8 bit"), (-1000, 65535, "beyond 16 bit")],
)
def test_intensities_that_are_no_hounsfield_units_are_reported(
    tmp_path: Path, low: float, high: float, reason: str
) -> None:
    image = np.linspace(low, high, 120, dtype=np.float32).reshape(6, 5, 4)
    case = write_case(tmp_path, "a", image=image)
    assert_only_problem(refusal(case), Kind.NOT_HU, case["image"], f"values {low:g} to {high:g} ({reason}")


def test_an_image_without_air_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = write_case(tmp_path, "a", image=np.maximum(ct_voxels(), -60))
    summary = check_dataset({"training": [case]}, ORGANS, progress=False)
    assert "no air in the image" in summary.warnings[0] and case["image"] in summary.warnings[0]
    assert summary.warnings[0] in caplog.text


@pytest.mark.parametrize("size", [0.0, -2.0, 0.002, 21.0, np.nan])
def test_an_impossible_spacing_is_reported(tmp_path: Path, size: float) -> None:
    case = write_case(tmp_path, "a")
    rewrite_header(Path(case["image"]), pixdim=(1.0, 2.0, 2.0, size), srow_z=(0.0, 0.0, size, 0.0))
    error = refusal(case)
    assert Kind.SPACING in {problem.kind for problem in error.problems}
    assert f"  - {case['image']}: 2 x 2 x {size:.4g} mm" in str(error)
    assert Kind.SPACING.remedy in str(error)


def test_a_header_that_contradicts_its_affine_is_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a")
    rewrite_header(Path(case["image"]), pixdim=(1.0, 1.0, 1.0, 1.0))
    found = "pixdim says 1 x 1 x 1 mm but the affine 2 x 2 x 3 mm"
    assert_only_problem(refusal(case), Kind.SPACING, case["image"], found)


def test_a_header_without_orientation_is_a_warning(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a")
    for key in ("image", "label"):
        rewrite_header(Path(case[key]), pixdim=(1.0, 2.0, 2.0, 3.0), sform_code=(0,), qform_code=(0,))
    summary = check_dataset({"training": [case]}, ORGANS, progress=False)
    assert "header has neither qform nor sform" in summary.warnings[0]


def test_an_empty_label_that_claims_organs_is_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", label=np.zeros((6, 5, 4), np.uint8))
    good = write_case(tmp_path, "b", seed=1)
    assert_only_problem(refusal(case, good), Kind.NO_CONTOUR, case["label"], "annotated for: spleen, liver")


def test_an_organ_with_voxels_that_is_not_annotated_is_a_warning(tmp_path: Path) -> None:
    case, full = write_case(tmp_path, "a", annotated=["spleen"]), write_case(tmp_path, "b", seed=1)
    summary = check_dataset({"training": [case, full]}, ORGANS, progress=False)
    assert f"{case['label']}: liver" in summary.warnings[0]
    assert summary.organ_cases["training"] == {"spleen": 2, "liver": 1}


def test_cases_of_other_organs_than_the_config_are_reported(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", label_values={"spleen": 1, "liver": 2, "aorta": 7})
    assert_only_problem(refusal(case), Kind.UNKNOWN_ORGAN, case["image"], "aorta")


@given(seed=st.integers(0, 2**32 - 1), place=st.integers(0, 23), dtype=st.sampled_from(["int16", "int32", "float32"]))
def test_the_hash_depends_on_shape_and_every_voxel_but_not_on_how_they_are_stored(
    seed: int, place: int, dtype: str
) -> None:
    voxels = ct_voxels(seed, (2, 3, 4))
    stored = np.asfortranarray(voxels.astype(dtype))
    assert voxel_hash(stored) == voxel_hash(voxels)
    assert voxel_hash(voxels.reshape(4, 3, 2)) != voxel_hash(voxels)
    stored.flat[place] += 1
    assert voxel_hash(stored) != voxel_hash(voxels)


def test_formats_that_only_itk_reads_are_checked_alike(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a")
    for key, voxels in (("image", ct_voxels()), ("label", label_voxels())):
        volume = itk.image_from_array(np.ascontiguousarray(voxels.T))
        volume.SetSpacing([2.0, 2.0, 3.0])
        case[key] = str(tmp_path / f"{key}.nrrd")
        itk.imwrite(volume, case[key])
    assert check_dataset({"training": [case]}, ORGANS, progress=False).organ_cases["training"]["liver"] == 1
    truncate(Path(case["image"]))
    assert_only_problem(refusal(case), Kind.UNREADABLE, case["image"], "file cannot be read (1)")


def test_a_patient_in_two_splits_is_reported_with_both_scans(tmp_path: Path) -> None:
    training = [write_case(tmp_path, "a1", 1, patient="anna"), write_case(tmp_path, "b", 2)]
    validation = [write_case(tmp_path, "a2", 3, patient="anna"), write_case(tmp_path, "c", 4)]
    with pytest.raises(DatasetError) as caught:
        check_dataset({"training": training, "validation": validation}, ORGANS, progress=False)
    (problem,) = caught.value.problems
    assert problem.kind is Kind.PATIENT and problem.where == "anna"
    assert "a1.nii.gz (training)" in problem.found and "a2.nii.gz (validation)" in problem.found


def test_scans_of_one_patient_in_one_split_are_fine(tmp_path: Path) -> None:
    training = [write_case(tmp_path, name, seed, patient="anna") for seed, name in enumerate("ab")]
    check_dataset({"training": training}, ORGANS, progress=False)
