"""A series is a regular volume, in whatever order its files lie, or is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_series import AXIAL, tilted, voxels_of, write_ct_series

from scripts.dataset.volume_file import read_volume_file
from scripts.dicom.series import find_series
from scripts.dicom.slice_stack import SliceStack, slice_stack

CORONAL = np.array([[-2.0, 0.0, 0.0, 9.0], [0.0, 0.0, -5.0, 8.0], [0.0, -3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
SAGITTAL = np.array([[0.0, 0.0, 5.0, 9.0], [-2.0, 0.0, 0.0, 8.0], [0.0, -3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
TURN = np.radians(20)
VOXELS = voxels_of((6, 5, 5))


def stack_of(folder: Path) -> SliceStack:
    (series,) = find_series(str(folder))
    return slice_stack(series)


def change(folder: Path, slice_number: int, **tags: Any) -> str:
    """Change tags of the slice with this number; return the name of its file."""
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        if one.InstanceNumber == slice_number:
            for name, value in tags.items():
                setattr(one, name, value)
            one.save_as(path)
            return path.name
    raise LookupError(slice_number)


@pytest.mark.parametrize("affine", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
def test_slices_are_ordered_by_place_and_not_by_name_or_number(affine: Any, tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS, affine, InstanceNumber=1)
    stack = stack_of(tmp_path)
    assert stack.shape == VOXELS.shape
    np.testing.assert_allclose(stack.affine, affine, atol=1e-4)
    names = [Path(header.filename).name for header in stack.headers]
    assert names != sorted(names)


def test_slices_from_head_to_feet_are_stacked_from_feet_to_head(tmp_path: Path) -> None:
    downwards = AXIAL @ np.diag([1.0, 1.0, -1.0, 1.0])
    write_ct_series(tmp_path, VOXELS, downwards)
    expected = downwards.copy()
    expected[:3, 3] += 4 * downwards[:3, 2]
    expected[:3, 2] *= -1
    np.testing.assert_allclose(stack_of(tmp_path).affine, expected, atol=1e-4)


@pytest.mark.parametrize("missing", [{1}, {8}, {1, 2, 3}, {2, 5}, {3, 4, 7}])
def test_missing_slices_are_counted(missing: set[int], tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((2, 2, 13)), leave_out=tuple(missing))
    with pytest.raises(ValueError, match=rf"1\.2\.3\.4 is not read as a volume: {len(missing)} slices? missing"):
        stack_of(tmp_path)


def test_the_gap_of_a_missing_slice_is_named_by_its_files(tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS, leave_out=(2,))
    below, above = (change(tmp_path, number) for number in (2, 4))
    with pytest.raises(ValueError, match=rf"1 slice missing, .*{below} and {above} \(10\.00 mm, else 5\.00 mm\)"):
        stack_of(tmp_path)


@pytest.mark.parametrize("degrees", [1.0, -8.0, 30.0])
def test_a_gantry_tilt_is_refused_with_its_angle(degrees: float, tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((6, 5, 30)), tilted(AXIAL, degrees))
    with pytest.raises(ValueError, match=rf"tilted by {abs(degrees):.1f} degrees .*gantry tilt.*dcm2niix"):
        stack_of(tmp_path)


def test_a_tilt_of_less_than_half_a_pixel_is_straightened_as_itk_does(tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS, tilted(AXIAL, 0.5))
    np.testing.assert_allclose(stack_of(tmp_path).affine, read_volume_file(str(tmp_path)).affine, atol=1e-5)
    axes = stack_of(tmp_path).affine[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.diag([4.0, 9.0, 25.0]), atol=1e-3)


def test_an_oblique_series_that_is_stacked_at_right_angles_is_no_tilt(tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS, rotated(AXIAL))
    np.testing.assert_allclose(stack_of(tmp_path).affine, rotated(AXIAL), atol=1e-4)


def rotated(affine: Any) -> Any:
    """The whole grid turned about the axis from right to left."""
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]]
    return turn @ affine


def test_rounded_places_are_no_irregularity(tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS)
    change(tmp_path, 3, ImagePositionPatient=[-30.5, -40.3, -50.2])
    np.testing.assert_allclose(stack_of(tmp_path).affine, AXIAL, atol=1e-4)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImagePositionPatient": [-30.5, -40.25, -51.5]}, r"distances of slices differ, from 3\.50 to 6\.50 mm"),
        ({"ImagePositionPatient": [-30.5, -40.25, -50.8]}, r"distances of slices differ, from 4\.20 to 5\.80 mm"),
        ({"ImagePositionPatient": [-30.5, -40.25, -55.0]}, "1 of 5 images lie at the place of another"),
        ({"ImagePositionPatient": [-27.5, -40.25, -50.0]}, r"is shifted sideways by 1\.5 pixels"),
        ({"ImagePositionPatient": None}, "has no ImagePositionPatient, so its place in the body is unknown"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "ImageOrientationPatient is .* in {name} and "),
        ({"PixelSpacing": [3.0, 2.1]}, "PixelSpacing is .* in {name} and "),
        ({"PatientID": "another"}, "it holds images of several patients"),
        ({"RescaleType": "MGML"}, "RescaleType .*MGML.*: these are other values"),
        ({"RescaleSlope": None}, "has no RescaleSlope, so its values may not be HU"),
    ],
    ids=[
        "uneven",
        "slightly uneven",
        "same place",
        "sideways",
        "no place",
        "turned",
        "other pixels",
        "two patients",
        "iodine",
        "no HU",
    ],
)
def test_an_image_that_does_not_fit_is_named(tags: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS)
    name = change(tmp_path, 3, **tags)
    with pytest.raises(ValueError, match=reason.replace("{name}", name)):
        stack_of(tmp_path)


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS)
    broken = sorted(tmp_path.iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(ValueError, match=rf"{broken.name} is cut off, \d+ bytes are missing"):
        stack_of(tmp_path)


def test_a_single_image_is_no_volume(tmp_path: Path) -> None:
    write_ct_series(tmp_path, VOXELS[:, :, :1])
    with pytest.raises(ValueError, match="it is a single image"):
        stack_of(tmp_path)
