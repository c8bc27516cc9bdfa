"""Tables of scans: what a row says, and what a broken table is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from scripts.prepare.scan_entry import ScanEntry
from scripts.prepare.scan_table import read_table


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


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_as_spreadsheets_save_it_is_read(tmp_path: Path, separator: str) -> None:
    path = write(tmp_path, separator.join(["Image", "Patient"]), separator.join(["a.nii", "007"]), encoding="utf-8-sig")
    (scan,) = read_table(path)
    assert (scan.image, scan.patient) == (str(tmp_path / "a.nii"), "007")


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
    with pytest.raises(ValueError, match="has the columns scan, label; expected 'image'"):
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
