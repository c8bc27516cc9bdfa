"""Every way in which the files of a case, CT or photograph, can be broken, and what the user is told about each."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
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
from tiny_voc import CLASSES, photograph_case, save_mask, shapes, write_voc

from scripts.dataset.case_check import check_case, check_photograph
from scripts.dataset.check import check_dataset
from scripts.dataset.datalists import load_cases
from scripts.dataset.layouts.voc import voc_colours
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


def test_scans_of_one_patient_in_one_split_are_fine(tmp_path: Path) -> None:
    training = [write_case(tmp_path, name, seed, patient="anna") for seed, name in enumerate("ab")]
    check_dataset({"training": training}, ORGANS, progress=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voc(tmp_path, train=2, val=1)


def only_problem(case: dict[str, Any]) -> tuple[Kind, str]:
    problems = check_photograph(case, CLASSES).problems
    assert len(problems) == 1
    return problems[0].kind, problems[0].found


def test_a_sound_photograph_has_no_problem_and_counts_its_classes(folder: Path) -> None:
    findings = check_photograph(photograph_case(folder), CLASSES)
    _, mask = shapes(1)
    assert findings.problems == [] and findings.warnings == []
    assert findings.organ_voxels == {"disc": int((mask == 1).sum()), "square": int((mask == 2).sum())}
    assert 255 in mask and findings.image_hash


def test_a_test_image_needs_no_mask(folder: Path) -> None:
    case = photograph_case(folder, annotated=[])
    del case["label"]
    assert check_photograph(case, CLASSES).problems == []


def test_a_mask_of_colours_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    Image.open(case["label"]).convert("RGB").save(case["label"])
    assert only_problem(case) == (Kind.NOT_INDICES, "mode RGB, expected P (palette) or L (greyscale)")


def test_a_greyscale_mask_of_indices_is_as_good_as_a_palette(folder: Path) -> None:
    case = photograph_case(folder)
    Image.fromarray(shapes(1)[1]).save(case["label"])
    assert check_photograph(case, CLASSES).problems == []


def test_a_palette_that_is_not_vocs_is_refused_where_the_classes_are_vocs(folder: Path) -> None:
    colours = voc_colours()
    colours[1], colours[2] = colours[2], colours[1]  # an editor numbered the colours anew
    case = photograph_case(folder)
    save_mask(Path(case["label"]), shapes(1)[1], colours)
    assert check_photograph(case, CLASSES).problems == []
    kind, found = only_problem({**case, "voc_palette": True})
    assert (kind, found) == (Kind.PALETTE, "index 1 has the colour (0, 128, 0), expected (128, 0, 0)")


def test_an_index_that_no_class_has_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    mask = shapes(1)[1]
    mask[0, 0] = 7
    save_mask(Path(case["label"]), mask)
    assert only_problem(case) == (Kind.UNKNOWN_VALUE, "7, expected among: 0, 1, 2, 255")


def test_255_is_refused_where_nothing_is_to_be_ignored(folder: Path) -> None:
    case = photograph_case(folder)
    del case["ignored_value"]
    assert only_problem(case) == (Kind.UNKNOWN_VALUE, "255, expected among: 0, 1, 2")


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    save_mask(Path(case["label"]), np.ascontiguousarray(shapes(1)[1].T))
    assert only_problem(case) == (Kind.GRID, "44 x 60 pixels, expected the photograph's 60 x 44")


def test_a_greyscale_photograph_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    Image.open(case["image"]).convert("L").save(case["image"])
    assert only_problem(case) == (Kind.NOT_RGB, "mode L, expected RGB")


def test_a_truncated_and_a_missing_file_are_told_apart(folder: Path) -> None:
    case = photograph_case(folder)
    image = Path(case["image"])
    image.write_bytes(image.read_bytes()[:600])
    Path(case["label"]).unlink()
    problems = check_photograph(case, CLASSES).problems
    assert [problem.kind for problem in problems] == [Kind.UNREADABLE, Kind.MISSING_FILE]


def test_the_check_of_a_dataset_lists_the_problems_of_all_photographs_at_once(folder: Path) -> None:
    Image.new("RGB", (60, 44)).save(folder / "SegmentationClass/train_0.png")
    Image.new("L", (60, 44)).save(folder / "JPEGImages/val_0.jpg")
    splits = {split: load_cases(str(folder), split, CLASSES) for split in ("training", "validation")}
    with pytest.raises(DatasetError) as caught:
        check_dataset(splits, CLASSES, progress=False)
    message = str(caught.value)
    for kind, file in ((Kind.NOT_INDICES, "train_0.png"), (Kind.NOT_RGB, "val_0.jpg")):
        assert f"{kind.title} (1). To fix: {kind.remedy}." in message and file in message


def test_a_sound_set_passes(folder: Path) -> None:
    splits = {split: load_cases(str(folder), split, CLASSES) for split in ("training", "validation")}
    summary = check_dataset(splits, CLASSES, progress=False)
    assert summary.organ_cases["training"] == {"disc": 2, "square": 2}


def test_one_photograph_in_two_splits_is_refused(folder: Path) -> None:
    image = folder / "JPEGImages"
    (image / "val_0.jpg").write_bytes((image / "train_1.jpg").read_bytes())
    (folder / "SegmentationClass/val_0.png").write_bytes((folder / "SegmentationClass/train_1.png").read_bytes())
    splits = {split: load_cases(str(folder), split, CLASSES) for split in ("training", "validation")}
    with pytest.raises(DatasetError, match="the same voxels as .*train_1.jpg"):
        check_dataset(splits, CLASSES, progress=False)
