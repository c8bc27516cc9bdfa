"""From a folder to the one that MONAI's reader takes: the same voxels, whatever the compression and the company."""

from __future__ import annotations

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
    RLELossless,
)

from scripts.dataset.inference_inputs import scan_inputs
from scripts.dataset.volume_file import read_volume_file
from scripts.dicom.series_folder import series_folder, stack_in
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
    with pytest.raises(ValueError, match="read as 2 volumes of .* images, since they differ in SliceThickness"):
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
