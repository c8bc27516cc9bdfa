"""Which series lie in a folder, and which one is meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ct_series import voxels_of, write_ct_series
from pydicom.uid import MRImageStorage

from scripts.dicom import headers
from scripts.dicom.series import choose_series, find_series, listing
from scripts.dicom.slice_stack import slice_stack

LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def test_series_are_told_apart_by_uid_wherever_their_files_lie(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "a", voxels_of((4, 4, 3)), series="1.2.3.4")
    write_ct_series(tmp_path / "a" / "b", voxels_of((4, 4, 2)), series="1.2.3.4.5", SeriesNumber=1)
    shutil.move(next((tmp_path / "a").glob("IM*")), tmp_path / "a" / "b")
    (tmp_path / "a" / "notes.txt").write_text("no DICOM")
    found = find_series(str(tmp_path))
    assert [(one.uid, len(one.headers), one.obstacle) for one in found] == [("1.2.3.4.5", 2, ""), ("1.2.3.4", 3, "")]
    assert "  2: 'abdomen venous', CT, 3 files, UID 1.2.3.4" in listing(found).splitlines()


def test_an_image_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((4, 4, 3)))
    for path in list(tmp_path.iterdir()):
        shutil.copy(path, tmp_path / f"copy_of_{path.name}")
    (series,) = find_series(str(tmp_path))
    assert len(series.headers) == 3


def test_a_folder_without_dicom_has_no_series(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"\0" * 400)
    assert find_series(str(tmp_path)) == []


def test_localizers_and_other_modalities_are_left_aside_and_the_only_ct_is_chosen(tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((4, 4, 3)), series="1.9")
    write_ct_series(tmp_path / "x", voxels_of((4, 4, 1)), series="1.9", ImageType=LOCALIZER, SOPInstanceUID="1.9.77")
    write_ct_series(tmp_path, voxels_of((4, 4, 2)), series="1.1", SOPClassUID=MRImageStorage, Modality="MR")
    found = find_series(str(tmp_path))
    assert [one.obstacle for one in found] == ["", "no CT image but MR Image Storage", "localizer"]
    chosen = choose_series(found, None, "x")
    assert chosen.uid == "1.9" and len(chosen.headers) == 3


def test_of_several_series_none_is_chosen_and_number_or_uid_chooses_one(tmp_path: Path) -> None:
    for number, uid in enumerate(("1.8", "1.7"), start=1):
        write_ct_series(tmp_path, voxels_of((4, 4, 2)), series=uid, SeriesNumber=number, SeriesDescription=f"p{number}")
    found = find_series(str(tmp_path))
    with pytest.raises(ValueError) as caught:
        choose_series(found, None, "folder")
    assert "folder folder holds 2 CT series, expected one" in str(caught.value)
    assert "1: 'p1', CT, 2 files, UID 1.8\n  2: 'p2', CT, 2 files, UID 1.7" in str(caught.value)
    assert choose_series(found, "2", "folder").uid == choose_series(found, 2, "folder").uid == "1.7"
    assert choose_series(found, "1.8", "folder").uid == "1.8"
    with pytest.raises(ValueError, match="no CT series '3'; give the number or the UID of one of these"):
        choose_series(found, "3", "folder")


def test_a_series_that_is_left_aside_is_not_chosen_by_its_number(tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((4, 4, 2)), series="1.1", SOPClassUID=MRImageStorage, Modality="MR")
    found = find_series(str(tmp_path))
    with pytest.raises(ValueError, match="no CT series '1'"):
        choose_series(found, "1", "folder")
    with pytest.raises(ValueError, match=r"(?s)no CT series that can be a volume:.*MR Image Storage"):
        choose_series(found, None, "folder")


def test_several_frames_in_one_file_are_left_aside_with_the_way_out(tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((4, 4, 1)), NumberOfFrames=2)
    (series,) = find_series(str(tmp_path))
    assert "dcm2niix" in series.obstacle


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((4, 4, 2)))
    broken = sorted(tmp_path.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:150])
    (series,) = find_series(str(tmp_path))
    with pytest.raises(ValueError, match=rf"{broken.name} \(.*\) cannot be read; export or copy it again"):
        slice_stack(series)


def test_without_pydicom_one_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "has_pydicom", False)
    with pytest.raises(ValueError, match="pydicom is not installed: run `python -m pip install -r requirements.txt`"):
        find_series(str(tmp_path))
