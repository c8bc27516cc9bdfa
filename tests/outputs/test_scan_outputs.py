"""What inference writes: on the scan's own grid to the bit, and whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import MetaTensor
from monai.transforms import LoadImaged, SaveImaged
from PIL import Image
from tiny_dataset import save

from scripts.dataset.layouts.voc import voc_colours
from scripts.outputs.scan_outputs import (
    SaveImageLabelsd,
    SaveImageScoresd,
    SaveOverlayd,
    SavePaletteLabelsd,
    scan_name,
    write_nifti,
)
from scripts.preprocessing.working_grid import ScoresToScanLabelsd, ToWorkingGridd

# An oblique left-posterior-superior grid whose numbers float32 does not hold exactly.
AFFINE = np.array([[-1.1, 0.1, 0.0, 70.3], [-0.1, -1.1, 0.0, 60.7], [0.0, 0.0, 2.7, -33.1], [0.0, 0.0, 0.0, 1.0]])
SHAPE = (21, 17, 9)


def load(path: Path) -> Any:
    return nib.load(path)


def item_of(folder: Path, **extra: Any) -> dict[str, Any]:
    """A scan through preprocessing, with class scores in which a block of organ 2 stands out."""
    voxels = np.random.default_rng(0).integers(-200, 300, SHAPE).astype(np.int16)
    path = save(folder / "scan7.nii.gz", voxels, AFFINE)
    data = LoadImaged("image", image_only=True, ensure_channel_first=True)({"image": path, **extra})
    item = ToWorkingGridd("image", [1.5, 1.5, 3.0])(data)
    scores = torch.zeros(3, *item["image"].shape[1:])
    scores[0], scores[2, 3:9, 3:9, 2:6] = 0.4, 0.9
    return {str(key): value for key, value in item.items()} | {"pred": scores}


def test_the_label_map_lies_on_the_scans_grid_to_the_bit(tmp_path: Path) -> None:
    item = ScoresToScanLabelsd("pred")(item_of(tmp_path))
    SaveImageLabelsd("pred", str(tmp_path / "out"))(item)
    (written,) = (tmp_path / "out").iterdir()
    scan, labels = load(tmp_path / "scan7.nii.gz"), load(written)
    assert written.name == "scan7_seg.nii.gz"
    assert labels.get_data_dtype() == np.uint8 and labels.shape == SHAPE
    assert np.array_equal(labels.affine, scan.affine)
    for field in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_x", "xyzt_units"):
        assert np.array_equal(labels.header[field], scan.header[field])
    assert np.unique(labels.dataobj).tolist() == [0, 2]


def test_a_case_that_has_a_name_is_written_under_it(tmp_path: Path) -> None:
    item = ScoresToScanLabelsd("pred")(item_of(tmp_path, case="patient 3"))
    SaveImageLabelsd("pred", str(tmp_path / "out"))(item)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["patient 3_seg.nii.gz"]


def test_a_scan_without_a_case_is_called_after_its_file() -> None:
    image = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": "/data/dr.smith.nii.gz"})
    assert scan_name({"image": image}) == "dr.smith"
    assert scan_name({"image": image, "case": 7}) == "7"


def test_class_scores_are_written_on_the_working_grid_with_classes_last(tmp_path: Path) -> None:
    item = item_of(tmp_path)
    SaveImageScoresd("pred", str(tmp_path / "out"))(item)
    written = load(tmp_path / "out" / "scan7_scores.nii.gz")
    assert written.shape == (*item["image"].shape[1:], 3)
    assert np.allclose(written.affine, item["image"].affine.numpy(), atol=1e-5)
    assert np.allclose(np.moveaxis(written.get_fdata(), -1, 0), item["pred"].numpy(), atol=1e-3)


def test_nothing_half_written_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(image: Any, path: Path) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError("no space left on device")

    write_nifti(tmp_path / "labels.nii.gz", np.ones((2, 2, 2), np.uint8), AFFINE)
    before = (tmp_path / "labels.nii.gz").read_bytes()
    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_nifti(tmp_path / "labels.nii.gz", np.zeros((2, 2, 2), np.uint8), AFFINE)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.nii.gz"]
    assert (tmp_path / "labels.nii.gz").read_bytes() == before


def test_the_folder_of_the_results_is_made(tmp_path: Path) -> None:
    write_nifti(tmp_path / "new" / "folder" / "x.nii.gz", np.ones((2, 2, 2), np.uint8), AFFINE)
    assert load(tmp_path / "new" / "folder" / "x.nii.gz").shape == (2, 2, 2)


@pytest.mark.parametrize("saver", [SaveImageLabelsd, SaveImageScoresd])
def test_clients_that_strip_savers_recognise_them(saver: type, tmp_path: Path) -> None:
    assert isinstance(saver("pred", str(tmp_path)), SaveImaged)


def test_the_items_go_on_unchanged(tmp_path: Path) -> None:
    item = item_of(tmp_path)
    passed = SaveImageScoresd("pred", str(tmp_path / "out"))(item)
    assert passed == item and passed is not item


@pytest.mark.parametrize("with_reference", [False, True])
def test_an_overlay_picture_of_the_scan_is_written(tmp_path: Path, with_reference: bool) -> None:
    item = ScoresToScanLabelsd("pred")(item_of(tmp_path))
    if with_reference:
        item["label"] = item["pred"]
    SaveOverlayd("pred", str(tmp_path / "out"), ["spleen", "liver"])(item)
    picture = imread(tmp_path / "out" / "scan7_overlay.png")
    assert picture.ndim == 3 and min(picture.shape[:2]) > 100
    # Coloured somewhere: the labels were drawn over the grey scan.
    assert float(np.ptp(picture[..., :3], axis=2).max()) > 0.2


def test_a_label_map_becomes_a_palette_png_of_its_indices(tmp_path: Path) -> None:
    labels = torch.zeros(1, 5, 3, 1, dtype=torch.uint8)
    labels[0, 4, 0], labels[0, 1, 2] = 20, 15  # top right, and second from the left in the last row
    saver = SavePaletteLabelsd("pred", str(tmp_path / "new"))
    saver({"pred": MetaTensor(labels), "case": "2008_000006"})
    written = Image.open(tmp_path / "new/2008_000006.png")
    assert written.format == "PNG" and written.mode == "P" and written.size == (5, 3)
    expected = np.zeros((3, 5), np.uint8)
    expected[0, 4], expected[2, 1] = 20, 15
    assert np.array_equal(np.asarray(written), expected)
    assert written.convert("RGB").getpixel((4, 0)) == voc_colours()[20]


def test_clients_that_strip_savers_recognise_it() -> None:
    assert issubclass(SavePaletteLabelsd, SaveImaged)
