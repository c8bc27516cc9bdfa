"""A photograph is a volume of one slice: its axes, its stored colours and its way back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image
from tiny_voc import CLASSES, HEIGHT, WIDTH, photograph_case, shapes, write_voc

from scripts.dataset.problems import VolumeError
from scripts.preprocessing.organ_labels import IGNORED, as_volume, load_organ_labels
from scripts.preprocessing.scan_reader import check_scan, load_volume
from scripts.preprocessing.slice_store import SliceStore, open_array, save_array
from scripts.preprocessing.working_grid import ScoresToScanLabelsd, ToWorkingGrid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("voc"), train=2, val=1)


def store_in(folder: Path, spacing: float = 1.0, channels: int = 3) -> SliceStore:
    return SliceStore(CLASSES, [spacing, spacing, 1.0], str(folder), channels=channels)


def load(path: str) -> MetaTensor:
    image: MetaTensor = LoadImage(image_only=True, ensure_channel_first=True)(path)
    return image


def test_a_photograph_gets_a_third_axis_and_a_volume_stays(folder: Path) -> None:
    photograph = as_volume(load(photograph_case(folder)["image"]))
    assert photograph.shape == (3, WIDTH, HEIGHT, 1)
    assert torch.equal(photograph.affine, torch.eye(4, dtype=torch.float64))
    volume = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0])))
    assert as_volume(volume) is volume


def test_a_single_slice_of_a_scan_keeps_its_spacing() -> None:
    affine = torch.diag(torch.tensor([0.8, 0.8, 5.0, 1.0], dtype=torch.float64))
    volume = as_volume(MetaTensor(torch.zeros(1, 4, 5), affine=affine))
    assert volume.shape == (1, 4, 5, 1) and torch.equal(volume.affine, affine)
    assert np.array_equal(volume.meta["original_affine"], affine.numpy())


def test_the_store_keeps_the_colours_as_channels_with_x_to_the_right_and_y_down(folder: Path, tmp_path: Path) -> None:
    case = photograph_case(folder)
    stored = store_in(tmp_path).open(case)
    pixels = torch.from_numpy(np.array(Image.open(case["image"])))
    assert stored.image.dtype == torch.int16 and stored.channels == 3
    assert torch.equal(stored.image, pixels.permute(2, 1, 0))
    assert torch.equal(stored.volume()[..., 0], stored.image)


def test_the_store_keeps_which_pixels_are_unknown(folder: Path, tmp_path: Path) -> None:
    _, mask = shapes(1)
    stored = store_in(tmp_path).open(photograph_case(folder))
    assert stored.label is not None and stored.label.shape == (1, WIDTH, HEIGHT)
    assert torch.equal(stored.label[0], torch.from_numpy(mask.T.copy()))
    without = photograph_case(folder)
    without["known_values"] = [*without["known_values"], without.pop("ignored_value")]  # declared: background
    unknown_gone = store_in(tmp_path).open(without)  # another entry of the cache
    assert unknown_gone.label is not None and not bool((unknown_gone.label == IGNORED).any())


def test_a_spacing_of_two_pixels_halves_a_photograph_and_its_mask(folder: Path, tmp_path: Path) -> None:
    stored = store_in(tmp_path, spacing=2.0).open(photograph_case(folder))
    assert stored.label is not None
    assert abs(stored.image.shape[1] - WIDTH / 2) <= 1 and abs(stored.image.shape[2] - HEIGHT / 2) <= 1
    assert stored.label.shape[1:] == stored.image.shape[1:]
    assert set(stored.label.unique().tolist()) == {0, 1, 2, IGNORED}


def test_a_coarse_pixel_is_the_mean_of_those_around_it_and_a_scan_is_interpolated() -> None:
    lines = MetaTensor(torch.zeros(3, 30, 30), affine=torch.eye(4, dtype=torch.float64))
    lines[:, ::3] = 90.0  # lines of a pixel, two pixels apart: a grid of every third pixel would show all or none
    for picture, value in ((lines, 30.0), (lines[:1, ..., None], 90.0)):
        inner = ToWorkingGrid([3.0, 3.0, 1.0])(picture)[:, 1:-1].flatten().tolist()
        assert inner == pytest.approx([value] * len(inner), abs=1e-2)


def test_a_photograph_of_other_channels_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train_0.jpg has 3 channels, image_channels says 1"):
        store_in(tmp_path, channels=1).open(photograph_case(folder))


def test_scores_on_a_coarser_grid_come_back_in_the_photographs_size(folder: Path) -> None:
    on_grid = ToWorkingGrid([2.0, 2.0, 1.0])(load(photograph_case(folder)["image"]))
    scores = torch.zeros(3, *on_grid.shape[1:])
    scores[0], scores[1, :10] = 0.4, 0.45  # below a half, and higher than the background
    restored = ScoresToScanLabelsd("pred", background=True, threshold=0.0)({"image": on_grid, "pred": scores})["pred"]
    assert restored.shape == (1, WIDTH, HEIGHT, 1)
    assert bool((restored[0, :18] == 1).all()) and bool((restored[0, 22:] == 0).all())
    halves = ScoresToScanLabelsd("pred")({"image": on_grid, "pred": scores})["pred"]
    assert not bool(halves.any()), "by default a class has to reach a half"


def test_labels_are_loaded_on_the_photographs_grid(folder: Path) -> None:
    label = load_organ_labels(photograph_case(folder), ["square", "disc"])
    expected = np.select([shapes(1)[1] == 1, shapes(1)[1] == 2, shapes(1)[1] == 255], [2, 1, IGNORED])
    assert np.array_equal(label[0, :, :, 0].numpy(), expected.T)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")
def test_thousands_of_open_arrays_hold_no_file_open(tmp_path: Path) -> None:
    save_array(tmp_path / "a.npy", np.arange(12, dtype=np.int16).reshape(3, 4))
    before = len(os.listdir("/proc/self/fd"))
    opened = [open_array(tmp_path / "a.npy") for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert opened[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]] and opened[0].dtype == torch.int16
    opened[0][:] = 0
    assert opened[1].sum() == 66, "a private copy of what is written to"


def test_a_picture_of_a_slice_is_no_scan_and_a_photograph_is_not_asked_for_hu(folder: Path, tmp_path: Path) -> None:
    """A predictor of CT takes one channel, so that such a picture would be segmented, by colours in place of HU."""
    photograph = load_volume(photograph_case(folder)["image"])
    assert check_scan(photograph) is photograph
    for name in ("slice.png", "slice.jpg"):
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / name)
        with pytest.raises(VolumeError, match=f"{name}: intensities are not Hounsfield units .a picture of 1 channels"):
            check_scan(load_volume(tmp_path / name))
