"""Scans in folders: which are found, what they are called, and which label and patient they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ct_series import write_ct_series
from own_scans import write_scan, write_series

from scripts.prepare.scan_folders import find_scans


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_volumes_and_series_are_found_at_any_depth_and_paired_by_name(tmp_path: Path) -> None:
    write_scan(tmp_path, "anna", 1)
    write_scan(tmp_path, "ben", 2, labelled=False)
    write_series(tmp_path / "scans" / "2021" / "dora", 3, patient="p7")
    touch(tmp_path / "scans" / "._anna.nii.gz", tmp_path / "scans" / "notes.txt")
    anna, ben, dora = find_scans(str(tmp_path / "scans"), str(tmp_path / "labels"))
    assert (anna.case, anna.label, anna.patient) == ("anna", str(tmp_path / "labels/anna.nii.gz"), None)
    assert (ben.case, ben.label) == ("ben", None)
    assert (dora.case, dora.image, dora.patient) == ("dora", str(tmp_path / "scans/2021/dora"), "p7")


def test_files_of_one_name_are_named_after_their_folders(tmp_path: Path) -> None:
    touch(tmp_path / "p1/ct.nii.gz", tmp_path / "p2/ct.nii.gz")
    assert [scan.case for scan in find_scans(str(tmp_path))] == ["p1_ct", "p2_ct"]


def test_the_stars_of_a_pattern_are_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "p1/ct.nii.gz", tmp_path / "p1/seg.nii.gz", tmp_path / "p2/ct.nii.gz")
    scans = find_scans(str(tmp_path / "*/ct.nii.gz"), str(tmp_path / "*/seg.nii.gz"))
    assert [(scan.case, bool(scan.label)) for scan in scans] == [("p1", True), ("p2", False)]
    touch(tmp_path / "ct/img0001.nii.gz", tmp_path / "seg/label0001.nii.gz")
    (scan,) = find_scans(str(tmp_path / "ct/img*.nii.gz"), str(tmp_path / "seg/label*.nii.gz"))
    assert (scan.case, scan.label) == ("0001", str(tmp_path / "seg/label0001.nii.gz"))


def test_the_channel_of_nnunets_scans_is_no_part_of_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr/a_0000.nii.gz", tmp_path / "labelsTr/a.nii.gz")
    (scan,) = find_scans(str(tmp_path / "imagesTr"), str(tmp_path / "labelsTr"))
    assert scan.label == str(tmp_path / "labelsTr/a.nii.gz")


def test_the_patient_is_found_in_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "p1_venous.nii.gz", tmp_path / "p1_plain.nii.gz")
    assert {scan.patient for scan in find_scans(str(tmp_path), patient_pattern="^(p[0-9]+)_")} == {"p1"}
    with pytest.raises(ValueError, match="finds no group in the name 'p1_plain'; expected a regular expression"):
        find_scans(str(tmp_path), patient_pattern="^(x[0-9]+)_")


def test_a_label_without_a_scan_is_refused_with_both_lists(tmp_path: Path) -> None:
    touch(tmp_path / "ct/img1.nii.gz", tmp_path / "seg/label1.nii.gz")
    with pytest.raises(
        ValueError, match="1 labels have no scan of the same name: label1; scans are named img1.*patterns"
    ):
        find_scans(str(tmp_path / "ct"), str(tmp_path / "seg"))


def test_a_folder_with_two_series_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "scans", 1)
    write_series(tmp_path / "scans", 2, series="1.2.3.5", slices=2)
    with pytest.raises(ValueError, match=r"holds 2 DICOM series; move each(?s:.*) 4 files, UID(?s:.*) 2 files, UID"):
        find_scans(str(tmp_path / "scans"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no volume"):
        find_scans(str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="is no folder; give the folder of the images"):
        find_scans(str(tmp_path / "nowhere"))


def test_a_localizer_beside_a_series_is_none_and_a_slice_that_cannot_be_read_is_no_absent_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    voxels = np.zeros((8, 8, 4), np.int16)
    write_ct_series(tmp_path / "scans/ct", voxels, np.eye(4))
    for place in ("ct/scout", "scout"):
        localizer = {"series": "1.9", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        write_ct_series(tmp_path / "scans" / place, voxels[:, :, :1], np.eye(4), **localizer)
    assert [scan.image for scan in find_scans(str(tmp_path / "scans"))] == [str(tmp_path / "scans/ct")]
    assert "passed over, none of its DICOM series can be a CT volume" in caplog.text
    for path in (tmp_path / "scans/ct").glob("IM*"):
        path.write_bytes(b"")
        path.rename(path.with_name(f"{path.name}.dcm"))
    with pytest.raises(ValueError, match=r"scans/ct/.*0 bytes.*cannot be read"):
        find_scans(str(tmp_path / "scans"))


def test_two_files_of_one_name_by_a_pattern_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii", tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="have one name, 'a'; rename one of them"):
        find_scans(str(tmp_path / "*"))
