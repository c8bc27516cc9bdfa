"""Which series lie in a folder, which one is meant, and the folder that MONAI's reader takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest
from ct_series import AXIAL, STORED_AIR, voxels_of, write_ct_series
from monai.transforms import LoadImage
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from scripts.dataset.inference_inputs import scan_inputs
from scripts.dataset.volume_file import read_volume_file
from scripts.dicom import headers
from scripts.dicom.series import choose_series, find_series, listing
from scripts.dicom.series_folder import series_folder, stack_in
from scripts.dicom.slice_stack import slice_stack
from scripts.inference.manifest import content_digest

VOXELS = voxels_of((40, 36, 4))  # JPEG 2000 wants 32 pixels at least


def assert_reads_as(folder: str, voxels: Any, affine: Any = AXIAL) -> None:
    """The folder is read by the reader of the configs with these voxels in HU at this place."""
    scan: Any = LoadImage(image_only=True)(folder)
    np.testing.assert_array_equal(scan.numpy(), voxels)
    np.testing.assert_allclose(scan.affine, affine, atol=1e-4)
    np.testing.assert_allclose(stack_in(folder).affine, affine, atol=1e-4)


def compress_as_lossless_jpeg(folder: Path) -> None:
    """Put what ITK encodes in place of the pixels: pydicom has no encoder of this old JPEG."""
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        stored = np.frombuffer(one.PixelData, "<u2").reshape(1, one.Rows, one.Columns)
        encoder = itk.GDCMImageIO.New()
        encoder.SetCompressionType(itk.GDCMImageIOEnums.Compression_JPEG)
        written = folder.parent / "encoded.dcm"
        itk.imwrite(itk.image_from_array(stored.copy()), str(written), imageio=encoder, compression=True)
        encoded = pydicom.dcmread(written)
        assert encoded.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        one.PixelData = encapsulate(list(generate_frames(encoded.PixelData, number_of_frames=1)))
        one["PixelData"].VR = "OB"
        one.PixelRepresentation = 0
        one.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        one.save_as(path)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_a_series_has_the_same_voxels_in_every_transfer_syntax(syntax: UID, tmp_path: Path) -> None:
    folder = str(write_ct_series(tmp_path / "ct", VOXELS, syntax=syntax))
    assert scan_inputs(folder) == [{"case": "ct", "image": folder}]
    assert_reads_as(folder, VOXELS)


def test_lossless_jpeg_is_read_too(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    assert VOXELS.min() + STORED_AIR >= 0
    compress_as_lossless_jpeg(folder)
    assert_reads_as(str(series_folder(str(folder))), VOXELS)


def test_a_series_among_others_is_read_alone(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_ct_series(study / "venous", VOXELS, series="1.1")
    write_ct_series(study / "native", VOXELS - 5, series="1.2", SeriesNumber=3)
    write_ct_series(study, VOXELS[:, :, :1], series="1.3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for wanted, voxels in (("1.1", VOXELS), ("1.2", VOXELS - 5), (2, VOXELS - 5)):
        (case,) = scan_inputs(str(study), wanted)
        assert case["case"] == "study"
        assert_reads_as(case["image"], voxels)
    with pytest.raises(ValueError, match="holds 2 CT series, expected one"):
        scan_inputs(str(study))


def test_a_folder_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller")
    os.rename(folder, odd)
    assert_reads_as(str(series_folder(odd)), VOXELS)


def test_files_of_other_kinds_in_the_folder_do_no_harm(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    (folder / "README.txt").write_text("from the archive")
    (folder / "thumbnails").mkdir()
    assert_reads_as(str(series_folder(str(folder))), VOXELS)


def test_nothing_is_changed_in_the_folder_of_the_user(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_ct_series(study / "venous", VOXELS)
    before = {path: path.read_bytes() for path in study.rglob("IM*")}
    series_folder(str(study))
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before


def test_a_series_is_checked_once_and_again_when_a_file_has_changed(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS, PhotometricInterpretation="MONOCHROME1")
    first = series_folder(str(folder))
    assert series_folder(str(folder)) == first != str(folder), "the same folder of copies"
    sorted(folder.iterdir())[1].write_bytes(b"")
    with pytest.raises(ValueError, match=r"0 bytes.* cannot be read"):
        series_folder(str(folder))


def test_copies_of_a_series_without_uids_are_the_same_in_every_run(tmp_path: Path) -> None:
    digests = []
    for run in ("one", "two"):
        folder = write_ct_series(tmp_path / run, VOXELS)
        for path in folder.iterdir():
            one = pydicom.dcmread(path)
            del one.SOPInstanceUID, one.file_meta
            pydicom.dcmwrite(path, one, implicit_vr=False, little_endian=True, enforce_file_format=False)
        digests.append(content_digest(Path(str(series_folder(str(folder))))))
    assert digests[0] == digests[1]


def test_a_series_that_the_reader_would_split_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path, VOXELS)
    path = sorted(folder.iterdir())[0]
    one = pydicom.dcmread(path)
    one.SliceThickness = 4
    one.save_as(path)
    with pytest.raises(ValueError, match="read as 2 volumes of .* images, by SliceThickness"):
        series_folder(str(folder))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_a_compressed_file_that_is_cut_off_is_refused(syntax: UID, tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path, VOXELS, syntax=syntax)
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(ValueError, match=r"cannot be decoded.*; export or copy it again"):
        series_folder(str(folder))


def test_a_datalist_may_name_series_and_its_irregular_ones_are_refused(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct_1", VOXELS)
    (tmp_path / "dataset.json").write_text('{"test": [{"image": "ct_1"}]}')
    assert scan_inputs(str(tmp_path)) == [{"case": "ct_1", "image": str(tmp_path / "ct_1")}]
    write_ct_series(tmp_path / "ct_2", VOXELS, leave_out=(1,))
    (tmp_path / "dataset.json").write_text('{"test": [{"image": "ct_2"}]}')
    with pytest.raises(ValueError, match="1 slice missing"):
        scan_inputs(str(tmp_path))


def test_the_dataset_check_of_a_training_refuses_it_too(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_volume_file(str(write_ct_series(tmp_path / "a", VOXELS))).voxels, VOXELS)
    with pytest.raises(ValueError, match="1 slice missing"):
        read_volume_file(str(write_ct_series(tmp_path / "b", VOXELS, leave_out=(1,))))


@pytest.mark.parametrize("content", [b"", b"\0" * 3000, b"version https://git-lfs.github.com/spec/v1"])
def test_a_slice_that_cannot_be_read_is_named_even_at_the_end_of_the_stack(content: bytes, tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    last = max(folder.iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)
    last.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{last.name} \(.*\) cannot be read; export or copy it again"):
        series_folder(str(folder))


@pytest.mark.parametrize("name", ["README", "README.txt", "DICOMDIR", ".DS_Store", "._IM0001", "Thumbs.db", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"\0\1\2\3" * 50])
def test_what_is_no_slice_lies_beside_a_series(name: str, content: bytes, tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    (folder / name).write_bytes(content)
    assert_reads_as(str(series_folder(str(folder))), VOXELS)


def test_a_file_without_preamble_and_with_odd_header_is_read(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    with pydicom.config.disable_value_validation():
        for path in folder.iterdir():
            one = pydicom.dcmread(path)
            one.SOPInstanceUID, one.StudyDate, one.PatientName = "removed", "2020-01-01", "A" * 90
            del one.file_meta
            pydicom.dcmwrite(path, one, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert_reads_as(str(series_folder(str(folder))), VOXELS)


def test_slices_in_a_linked_subfolder_are_a_part_of_the_series(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    (tmp_path / "elsewhere").mkdir()
    for path in sorted(folder.iterdir())[:2]:
        path.rename(tmp_path / "elsewhere" / path.name)
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    assert_reads_as(str(series_folder(str(folder))), VOXELS)


def test_slices_of_two_acquisitions_that_alternate_are_refused(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", VOXELS)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.AcquisitionNumber = one.InstanceNumber % 2
        one.save_as(path)
    with pytest.raises(ValueError, match="slices of acquisitions 0 and 1 alternate"):
        series_folder(str(folder))


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
    assert ", give its folder, or move each series to a folder of its own" in str(caught.value)
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


def test_an_image_that_does_not_say_what_it_is_is_named(tmp_path: Path) -> None:
    write_ct_series(tmp_path, voxels_of((4, 4, 2)))
    broken = pydicom.dcmread(path := min(tmp_path.iterdir()))
    broken.SOPClassUID = ""
    broken.save_as(path)
    with pytest.raises(ValueError, match=rf"{path.name} \(it has no SOPClassUID\) cannot be read"):
        slice_stack(find_series(str(tmp_path))[0])


def test_without_pydicom_one_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "has_pydicom", False)
    with pytest.raises(ValueError, match="pydicom, which is not installed: `python -m pip install pydicom`"):
        find_series(str(tmp_path))
