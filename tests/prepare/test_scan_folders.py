"""Scans in folders and tables: which are found, what is known of each, and what a broken table is told."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from ct_series import write_ct_series
from tiny_dataset import write_scan, write_series

from scripts.prepare.scan_folders import find_scans, read_table
from scripts.prepare.split import ScanEntry


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


def test_two_stars_stand_for_folders_too(tmp_path: Path) -> None:
    touch(tmp_path / "s/a/1/ct.nii.gz", tmp_path / "s/b/ct.nii.gz")
    assert [scan.case for scan in find_scans(str(tmp_path / "s/**/ct.nii.gz"))] == ["a_1", "b"]


def test_linked_folders_are_searched_as_well(tmp_path: Path) -> None:
    touch(tmp_path / "archive/p2/b.nii.gz", tmp_path / "scans/a.nii.gz")
    (tmp_path / "scans/p2").symlink_to(tmp_path / "archive/p2")
    assert [scan.case for scan in find_scans(str(tmp_path / "scans"))] == ["a", "b"]


def test_a_volume_beside_a_series_and_a_series_in_two_folders_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "scans" / "p1", 1)
    touch(tmp_path / "scans/p1/dose.nii.gz")
    with pytest.raises(ValueError, match=r"p1 holds 1 DICOM series beside dose.nii.gz; move each to its folder"):
        find_scans(str(tmp_path / "scans"))
    (tmp_path / "scans/p1/dose.nii.gz").unlink()
    (tmp_path / "scans/p2").mkdir()
    last = max((tmp_path / "scans/p1").iterdir())
    last.rename(tmp_path / "scans/p2" / last.name)
    with pytest.raises(ValueError, match="p2 and .*p1 hold images of one DICOM series; move them to one folder"):
        find_scans(str(tmp_path / "scans"))


def test_the_channel_of_nnunets_scans_is_no_part_of_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr/a_0000.nii.gz", tmp_path / "labelsTr/a.nii.gz")
    (scan,) = find_scans(str(tmp_path / "imagesTr"), str(tmp_path / "labelsTr"))
    assert scan.label == str(tmp_path / "labelsTr/a.nii.gz")


def test_two_labels_of_one_scan_are_refused(tmp_path: Path) -> None:
    # A first contour and a corrected one: whichever came last in the alphabet would have been trained on.
    touch(tmp_path / "ct/anna.nii.gz", tmp_path / "seg/anna.nii.gz", tmp_path / "seg/anna_seg.nii.gz")
    with pytest.raises(ValueError, match=r"labels \S+/anna.nii.gz and \S+/anna_seg.nii.gz have one name, 'anna'"):
        find_scans(str(tmp_path / "ct"), str(tmp_path / "seg"))


def test_the_patient_is_found_in_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "p1_venous.nii.gz", tmp_path / "p1_plain.nii.gz")
    assert {scan.patient for scan in find_scans(str(tmp_path), patient_pattern="^(p[0-9]+)_")} == {"p1"}
    with pytest.raises(ValueError, match="finds no group in 'p1_plain'; expected a regular expression"):
        find_scans(str(tmp_path), patient_pattern="^(x[0-9]+)_")


def test_a_label_without_a_scan_is_refused_with_both_lists(tmp_path: Path) -> None:
    touch(tmp_path / "ct/img1.nii.gz", tmp_path / "seg/label1.nii.gz")
    with pytest.raises(ValueError, match="1 labels have no scan of the same name: label1; scans: img1.*patterns"):
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


def write(tmp_path: Path, *lines: str, encoding: str = "utf-8") -> str:
    (tmp_path / "scans.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(tmp_path / "scans.csv")


def test_a_row_says_what_is_known_about_a_scan(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "image,label,phase,organs,patient,split,case",
        "ct/a.nii.gz,seg/a.nii.gz,portal_venous,liver; spleen,p1,val,",
        "ct/b,,,,,,second",
    )
    first, second = read_table(path)
    assert first == ScanEntry(
        case="a",
        image=str(tmp_path / "ct/a.nii.gz"),
        label=str(tmp_path / "seg/a.nii.gz"),
        phase="portal_venous",
        organs=("liver", "spleen"),
        patient="p1",
        split="validation",
    )
    assert second == ScanEntry(case="second", image=str(tmp_path / "ct/b"))
    assert (first.patient_or_case, second.patient_or_case) == ("p1", "second")


def test_a_table_that_names_no_patient_takes_that_of_the_series_or_of_the_pattern(tmp_path: Path) -> None:
    for phase in ("plain", "venous"):
        write_series(tmp_path / "ct" / phase, 3, patient="p7")
    table = write(tmp_path, "image,patient", "ct/plain,", "ct/venous,", "a_1.nii.gz,", "a_2.nii.gz,anna")
    assert [scan.patient for scan in read_table(table)] == ["p7", "p7", None, "anna"]
    table = write(tmp_path, "image", "a_1.nii.gz", "a_2.nii.gz")
    assert [scan.patient for scan in read_table(table, "^(.)_")] == ["a", "a"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_as_spreadsheets_save_it_is_read(tmp_path: Path, separator: str) -> None:
    path = write(tmp_path, separator.join(["Image", "Patient"]), separator.join(["a.nii", "007"]), encoding="utf-8-sig")
    (scan,) = read_table(path)
    assert (scan.image, scan.patient) == (str(tmp_path / "a.nii"), "007")


@pytest.mark.parametrize("row", ["a.nii,liver,", "a.nii,liver,spleen"])
def test_a_row_with_more_cells_than_columns_is_refused(row: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has more cells in row 3 than columns: put cells with commas in quotes"):
        read_table(write(tmp_path, "image,organs", 'b.nii,"liver,spleen"', row))


def test_a_table_may_have_nothing_but_images(tmp_path: Path) -> None:
    assert [scan.case for scan in read_table(write(tmp_path, "image", "a.nii", "b.nii.gz"))] == ["a", "b"]


def test_a_misspelt_column_is_refused_and_one_of_another_matter_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"rename 'organ' \(did you mean 'organs'\?\)"):
        read_table(write(tmp_path, "image,organ", "a.nii,liver"))
    with caplog.at_level(logging.INFO):
        assert len(read_table(write(tmp_path, "image,age", "a.nii,60"))) == 1
    assert "the columns age are not used" in caplog.text


def test_a_table_without_images_or_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has scan, label; expected 'image'"):
        read_table(write(tmp_path, "scan,label", "a.nii,b.nii"))
    with pytest.raises(ValueError, match="it has no row"):
        read_table(write(tmp_path, "image,label"))
    with pytest.raises(FileNotFoundError, match="nowhere.csv' does not exist"):
        read_table(str(tmp_path / "nowhere.csv"))
    with pytest.raises(ValueError, match="cannot be read"):
        read_table(write(tmp_path))


def test_all_rows_to_mend_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label,organs,split", ",b.nii,,", "a.nii,,liver,", "c.nii,,,holdout", "d.nii,,,test")
    with pytest.raises(ValueError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "row 2: 'image' is empty" in message
    assert "row 3: a.nii has 'organs' but no 'label'" in message
    assert "row 4: 'split' of c.nii is 'holdout'" in message
    assert "row 5" not in message
