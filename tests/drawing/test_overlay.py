"""The picture of one case: what is where on the display, which slices are shown, and that a PNG comes out."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from scripts.drawing.display import (
    box_around_organs,
    display_spacing,
    picture_of,
    pixel_aspect,
    slices_with_most_organs,
    to_display_order,
)
from scripts.drawing.overlay import organ_colour, overlay_figure, save_figure

SPACING = (1.0, 2.0, 5.0)
EVERY_ORIENTATION = ["".join(codes) for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)]


def stored_scan(codes: str) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """One organ voxel in the right, front, upper part of a patient whose scan is stored along the axes `codes`."""
    labels = np.zeros((6, 7, 8), dtype=np.int16)
    labels[4, 5, 6] = 1  # Axes that grow to the patient's right, front and head.
    axes = [{"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[code] for code in codes]
    backwards = [code in "LPI" for code in codes]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, (axis, backward) in enumerate(zip(axes, backwards, strict=True)):
        affine[axis, column] = -SPACING[axis] if backward else SPACING[axis]
    return np.flip(labels.transpose(axes), tuple(np.flatnonzero(backwards).tolist())), affine


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
def test_right_is_left_front_and_head_are_up_however_the_scan_is_stored(codes: str) -> None:
    stored, affine = stored_scan(codes)
    labels = to_display_order(stored, affine)
    (left, posterior, superior) = np.argwhere(labels)[0]

    axial = picture_of(labels, "axial", superior)
    assert axial.shape == (7, 6)
    # Fifth of six voxels towards the right: second column. Sixth of seven towards the front: second row.
    assert np.argwhere(axial).tolist() == [[1, 1]]
    coronal = picture_of(labels, "coronal", posterior)
    assert coronal.shape == (8, 6)
    # Seventh of eight voxels towards the head: second row.
    assert np.argwhere(coronal).tolist() == [[1, 1]]
    sagittal = picture_of(labels, "sagittal", left)
    assert sagittal.shape == (8, 7)
    assert np.argwhere(sagittal).tolist() == [[1, 1]]
    assert display_spacing(affine) == pytest.approx(SPACING)


def test_pixels_are_as_high_and_wide_as_voxels_in_mm() -> None:
    left, posterior, superior = 1.0, 2.0, 5.0
    assert pixel_aspect((left, posterior, superior), "axial") == 2.0
    assert pixel_aspect((left, posterior, superior), "coronal") == 5.0
    assert pixel_aspect((left, posterior, superior), "sagittal") == 2.5


def test_a_channel_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="drop the channel axis"):
        to_display_order(np.zeros((1, 4, 4, 4)), np.eye(4))


def test_the_slices_chosen_show_every_organ_at_its_largest() -> None:
    labels = np.zeros((4, 2, 4), dtype=int)
    labels[:, 0, 1] = 1  # Areas of the first organ per axial slice: 0 4 2 0.
    labels[:2, 0, 2] = 1
    labels[:2, 1, 2] = 2  # Areas of the second: 0 0 2 4.
    labels[:, 1, 3] = 2
    assert slices_with_most_organs([labels], "axial", 2, class_count=2) == [1, 3]
    # A third slice would show nothing new.
    assert slices_with_most_organs([labels], "axial", 3, class_count=2) == [1, 3]


def test_a_slice_with_two_organs_goes_before_a_slice_with_one() -> None:
    labels = np.zeros((4, 4, 5), dtype=int)
    labels[0, 0, 1] = 1
    labels[0, 0, 3], labels[1, 1, 3] = 1, 2
    assert slices_with_most_organs([labels], "axial", 1, class_count=2) == [3]


def test_what_only_the_reference_holds_is_shown_too() -> None:
    prediction, reference = np.zeros((4, 4, 9), dtype=int), np.zeros((4, 4, 9), dtype=int)
    reference[1, 1, 7] = 1
    assert slices_with_most_organs([prediction, reference], "axial", 1, class_count=1) == [7]


def test_a_scan_without_organs_is_shown_at_equal_steps() -> None:
    assert slices_with_most_organs([np.zeros((3, 3, 8), dtype=int)], "axial", 4, class_count=2) == [1, 3, 5, 7]


def test_the_box_keeps_a_margin_in_mm_within_the_scan() -> None:
    labels = np.zeros((20, 20, 20), dtype=int)
    labels[10, 10, 1] = 3
    # 4 mm are four voxels of 1 mm, two of 2 mm, and one of 5 mm (0.8, rounded), cut at the lower end of the scan.
    assert box_around_organs([labels], (1.0, 2.0, 5.0), 4.0) == (slice(6, 15), slice(8, 13), slice(0, 3))
    assert box_around_organs([labels * 0], (1.0, 2.0, 5.0), 4.0) == (slice(0, 20),) * 3


def test_every_organ_keeps_its_colour_and_none_is_the_white_of_the_reference() -> None:
    colours = [organ_colour(index) for index in range(1, 14)]
    assert len(set(colours)) == 13
    assert "#ffffff" not in colours and "white" not in colours


@pytest.mark.parametrize("with_reference", [False, True])
def test_a_picture_is_written_with_the_right_organ_on_the_left_side(tmp_path: Path, with_reference: bool) -> None:
    labels = np.zeros((24, 20, 16), dtype=np.uint8)
    labels[16:22, 6:14, 4:12] = 1  # x grows to the patient's right.
    labels[2:8, 6:14, 4:12] = 2
    image = np.full(labels.shape, -1000.0)
    path = tmp_path / "pictures" / "case.png"
    reference = np.roll(labels, 1, axis=1) if with_reference else None
    save_figure(overlay_figure(image, labels, np.eye(4), ("right_kidney", "left_kidney"), reference, "case"), path)
    picture = (imread(path)[..., :3] * 255).round().astype(int)
    assert [file.name for file in path.parent.iterdir()] == ["case.png"]

    # The top left third of the picture holds the first axial panel; the legend lies below.
    height, width = picture.shape[:2]
    panel = picture[: height // 2, : width // 3]
    right, left = (np.abs(panel - rgb).sum(axis=-1) < 40 for rgb in ((0xE6, 0x19, 0x4B), (0x3C, 0xB4, 0x4B)))
    assert right.any() and left.any()
    assert np.argwhere(right)[:, 1].max() < np.argwhere(left)[:, 1].min()


def test_a_case_without_any_organ_still_gives_a_picture(tmp_path: Path) -> None:
    labels = np.zeros((6, 6, 6), dtype=np.uint8)
    save_figure(overlay_figure(np.zeros((6, 6, 6)), labels, np.eye(4), ("spleen",)), tmp_path / "case.png")
    assert (tmp_path / "case.png").read_bytes().startswith(b"\x89PNG")


def test_label_maps_that_do_not_fit_are_refused() -> None:
    image = np.zeros((6, 6, 6))
    with pytest.raises(ValueError, match="put both on the scan's grid"):
        overlay_figure(image, np.zeros((6, 6, 5), dtype=int), np.eye(4), ("spleen",))
    with pytest.raises(ValueError, match="0 to 2, expected 0 to 1"):
        overlay_figure(image, np.eye(6, dtype=int)[None].repeat(6, 0) * 2, np.eye(4), ("spleen",))
