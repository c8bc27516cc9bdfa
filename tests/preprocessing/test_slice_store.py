"""The slice store: a scan is read once, and a change of anything its arrays depend on makes new ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from tiny_dataset import AFFINE, ORGANS, ct_voxels, label_voxels, save, write_case, write_series

from scripts.preprocessing.slice_store import SliceStore

SPACING = [2.0, 2.0, 3.0]
"""That of the scans: the working grid is the scan's own."""


def store_in(folder: Path, **changes: Any) -> SliceStore:
    arguments: dict[str, Any] = {"organs": ORGANS, "spacing": SPACING, "cache_dir": str(folder / "cache"), **changes}
    return SliceStore(**arguments)


def folders(folder: Path) -> list[Path]:
    return sorted((folder / "cache").iterdir())


def test_slices_come_first_and_hu_are_whole_numbers(tmp_path: Path) -> None:
    hu = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) * 10 - 600
    stored = store_in(tmp_path).open(write_case(tmp_path, "x", image=hu))
    assert stored.image.dtype == torch.int16 and stored.image.shape == (4, 6, 5)
    assert torch.equal(stored.image, torch.from_numpy(hu).permute(2, 0, 1))
    assert stored.label is not None and stored.label.dtype == torch.uint8
    assert torch.equal(stored.label, torch.from_numpy(label_voxels()).permute(2, 0, 1))


def test_values_beyond_the_range_of_ct_are_clipped(tmp_path: Path) -> None:
    hu = np.zeros((6, 5, 4), np.int16)
    hu[0, 0, 0], hu[1, 1, 1] = -3024, 32000  # padding of some scanners; metal
    stored = store_in(tmp_path).open(write_case(tmp_path, "x", image=hu))
    assert (int(stored.image.min()), int(stored.image.max())) == (-1024, 3071)


def test_a_scan_in_another_orientation_gives_the_same_slices(tmp_path: Path) -> None:
    case, turned = write_case(tmp_path, "x"), write_case(tmp_path, "y")
    there = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("SPL"))
    affine = AFFINE @ inv_ornt_aff(there, (6, 5, 4))
    for key, voxels in (("image", ct_voxels()), ("label", label_voxels())):
        save(Path(turned[key]), apply_orientation(voxels, there), affine)
    first, second = (store_in(tmp_path).open(each) for each in (case, turned))
    assert torch.equal(first.image, second.image)
    assert first.label is not None and second.label is not None and torch.equal(first.label, second.label)


def test_organs_and_phase_become_indices(tmp_path: Path) -> None:
    store = store_in(tmp_path, phases=["portal_venous", "non_contrast"])
    case = write_case(tmp_path, "x", annotated=["liver"], phase="non_contrast")
    stored = store.open(case)
    assert (stored.name, stored.annotated, stored.phase) == ("x", (2,), 1)
    assert store.open({**case, "phase": None}).phase == 0


def test_a_case_that_names_no_contoured_organs_is_contoured_for_all(tmp_path: Path) -> None:
    case = write_case(tmp_path, "x")
    del case["annotated"]
    assert store_in(tmp_path).open(case).annotated == (1, 2)


def test_the_same_files_may_serve_two_cases_with_other_contoured_organs(tmp_path: Path) -> None:
    case, store = write_case(tmp_path, "x"), store_in(tmp_path)
    assert store.open(case).annotated == (1, 2)
    assert store.open({**case, "annotated": ["spleen"]}).annotated == (1,)


def test_an_unlabelled_scan_has_slices_and_nothing_contoured(tmp_path: Path) -> None:
    case = write_case(tmp_path, "x")
    del case["label"]
    stored = store_in(tmp_path).open(case)
    assert stored.label is None and stored.annotated == ()


def test_a_case_without_a_name_is_called_after_its_file(tmp_path: Path) -> None:
    case = write_case(tmp_path, "patient.7")
    del case["case"]
    assert store_in(tmp_path).open(case).name == "patient.7"


def test_another_run_finds_the_arrays_and_leaves_them_alone(tmp_path: Path) -> None:
    case = write_case(tmp_path, "x")
    store_in(tmp_path).prepare([case])
    (folder,) = folders(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    store_in(tmp_path).prepare([case])
    store_in(tmp_path).open(case)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("changed", ["spacing", "organs", "label_values", "file", "voxels"])
def test_what_the_arrays_depend_on_makes_new_arrays(tmp_path: Path, changed: str) -> None:
    case = write_case(tmp_path, "x")
    if changed == "voxels":
        case = {"case": "x", "image": str(tmp_path / "x.mhd")}
        itk.imwrite(itk.image_from_array(ct_voxels()), case["image"])
    store_in(tmp_path).open(case)
    settings: dict[str, Any] = {}
    if changed == "spacing":
        settings = {"spacing": [4.0, 4.0, 3.0]}
    elif changed == "organs":
        settings = {"organs": ["liver", "spleen"]}
    elif changed == "label_values":
        case = {**case, "label_values": {"spleen": 2, "liver": 1}}
    else:
        os.utime(case["label"] if changed == "file" else tmp_path / "x.raw", ns=(1, 1))
    stored = store_in(tmp_path, **settings).open(case)
    assert len(folders(tmp_path)) == 2
    if changed in ("organs", "label_values"):
        assert stored.label is not None
        assert int((stored.label == 1).sum()) == 2, "spleen and liver have to have changed places"


def test_arrays_of_another_number_of_channels_are_not_taken(tmp_path: Path) -> None:
    case = write_case(tmp_path, "x")
    store_in(tmp_path).open(case)
    with pytest.raises(ValueError, match="has 1 channels, image_channels says 3"):
        store_in(tmp_path, channels=3).open(case)


def test_a_dicom_series_that_is_exported_again_into_its_folder_is_read_again(tmp_path: Path) -> None:
    """The folder's own time stays when its files are overwritten."""
    case = {"image": str(tmp_path / "series"), "case": "x"}
    write_series(tmp_path / "series", seed=1)
    before = store_in(tmp_path).open(case).image.clone()
    folder_time = os.stat(case["image"]).st_mtime_ns
    write_series(tmp_path / "series", seed=2)
    os.utime(case["image"], ns=(folder_time, folder_time))
    assert not torch.equal(store_in(tmp_path).open(case).image, before)


def test_a_case_whose_preparation_was_cut_short_is_prepared_again(tmp_path: Path) -> None:
    case = write_case(tmp_path, "x")
    store_in(tmp_path).prepare([case])
    (folder,) = folders(tmp_path)
    (folder / "done").unlink()
    (folder / "image.npy").write_bytes(b"half")
    assert store_in(tmp_path).open(case).image.shape == (4, 6, 5)


def test_several_cases_are_prepared_side_by_side(tmp_path: Path) -> None:
    cases = [write_case(tmp_path, f"case{number}", seed=number) for number in range(5)]
    store = store_in(tmp_path, workers=3)
    store.prepare(cases)
    assert len(folders(tmp_path)) == 5
    single = SliceStore(ORGANS, SPACING, str(tmp_path / "other"), workers=1)
    assert all(torch.equal(store.open(case).image, single.open(case).image) for case in cases)


def test_nothing_that_is_done_to_the_slices_reaches_the_file(tmp_path: Path) -> None:
    case, store = write_case(tmp_path, "x"), store_in(tmp_path)
    store.open(case).image[:] = 7
    assert int(store_in(tmp_path).open(case).image.max()) > 7
