"""A DICOM-SEG holds the label map voxel by voxel, on the grid of the series that it refers to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from config_compositions import INFERENCE, OVERLAYS, ROOT, load
from ct_series import AXIAL, LPS, voxels_of, write_ct_series
from matplotlib.colors import to_rgb
from monai.data import MetaTensor
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import SegmentationStorage

from scripts.drawing.overlay import organ_colour
from scripts.files.result_files import bundle_identity
from scripts.outputs import dicom_segmentation as segmentation
from scripts.outputs.dicom_segmentation import SaveDicomSegmentationd, codes, organ_code, write_segmentation
from scripts.outputs.structure_set import write_structure_set

ORGANS = ["spleen", "right_kidney", "my_own_region", "liver"]
SHAPE = (16, 12, 6)


def label_map() -> Any:
    """Three of the four organs at random, none in the third slice."""
    labels = np.random.default_rng(3).choice([0, 1, 2, 4], SHAPE).astype(np.uint8)
    labels[:, :, 2] = 0
    return labels


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_ct_series(tmp_path / "ct", voxels_of(SHAPE))


def written(labels: Any, series: Path, affine: Any = AXIAL) -> Path:
    path = series.parent / "out" / "ct_seg.dcm"
    write_segmentation(labels, affine, str(series), ORGANS, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_it_is_the_label_map_on_the_grid_of_the_series_read_by_highdicom(series: Path) -> None:
    labels = label_map()
    volume = hd.seg.segread(written(labels, series)).get_volume(combine_segments=True)
    # highdicom's volumes have the axes slice, row, column, here with slices from head to feet.
    to_seg = np.linalg.inv(volume.affine) @ LPS @ AXIAL
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1) @ to_seg[:3, :3].T + to_seg[:3, 3]
    np.testing.assert_allclose(places, places.round(), atol=1e-3)
    found = volume.array[tuple(np.moveaxis(places.round().astype(int), -1, 0))]
    np.testing.assert_array_equal(found, labels)


def test_every_frame_lies_on_its_image_read_by_pydicom_alone(series: Path) -> None:
    labels = label_map()
    content = pydicom.dcmread(written(labels, series))
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, series.iterdir())}
    frames = content.pixel_array
    again = np.zeros_like(labels)
    for frame, about in zip(frames, content.PerFrameFunctionalGroupsSequence, strict=True):
        source = about.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        image = images[source]
        assert about.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
        segment = about.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        again[:, :, image.InstanceNumber - 1][frame.T > 0] = segment
    np.testing.assert_array_equal(again, labels)
    shared = content.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == image.PixelSpacing


def test_it_belongs_to_patient_study_and_frame_of_reference_of_the_series(series: Path) -> None:
    content = pydicom.dcmread(written(label_map(), series))
    image = pydicom.dcmread(next(series.iterdir()))
    for tag in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert content.get(tag) == image.get(tag), tag
    assert content.SOPClassUID == SegmentationStorage
    assert content.SeriesInstanceUID != image.SeriesInstanceUID
    assert content.SoftwareVersions == bundle_identity().version
    assert "research" in content.SeriesDescription and "research" in content.ContentDescription


def test_segments_have_the_names_numbers_codes_and_colours_of_the_organs(series: Path) -> None:
    segments = hd.seg.segread(written(label_map(), series)).SegmentSequence
    assert [one.SegmentLabel for one in segments] == ["spleen", "right kidney", "my own region", "liver"]
    assert [one.SegmentNumber for one in segments] == [1, 2, 3, 4]
    kidney = segments[1].SegmentedPropertyTypeCodeSequence[0]
    assert (kidney.CodeMeaning, kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("Kidney", "Right")
    shown = hd.color.CIELabColor.from_dicom_value(segments[0].RecommendedDisplayCIELabValue).to_rgb()
    np.testing.assert_allclose(np.array(shown) / 255, to_rgb(organ_colour(1)), atol=0.02)


def test_organs_that_were_not_wanted_have_no_segment_and_the_others_keep_voxels_and_colours(series: Path) -> None:
    labels, path = label_map(), series.parent / "seg.dcm"
    write_segmentation(np.where(labels == 2, 0, labels), AXIAL, str(series), ORGANS, path, [1, 4])
    content = pydicom.dcmread(path)
    assert [(one.SegmentNumber, one.SegmentLabel) for one in content.SegmentSequence] == [(1, "spleen"), (2, "liver")]
    whole = pydicom.dcmread(written(labels, series)).SegmentSequence
    assert content.SegmentSequence[1].RecommendedDisplayCIELabValue == whole[3].RecommendedDisplayCIELabValue
    voxels: dict[int, int] = {}
    for frame, about in zip(content.pixel_array, content.PerFrameFunctionalGroupsSequence, strict=True):
        number = about.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        voxels[number] = voxels.get(number, 0) + int(frame.sum())
    assert voxels == {1: (labels == 1).sum(), 2: (labels == 4).sum()}


def test_a_scan_without_any_organ_gives_empty_segments(series: Path) -> None:
    content = hd.seg.segread(written(np.zeros(SHAPE, np.uint8), series))
    assert not content.pixel_array.any()


def test_the_name_of_a_patient_is_not_shown(tmp_path: Path) -> None:
    series = write_ct_series(tmp_path / "ct", voxels_of(SHAPE), PatientName="SECRET")
    code = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from scripts.outputs.dicom_segmentation import write_segmentation\n"
        f"labels, affine = np.ones({SHAPE}, np.uint8), np.array({AXIAL.tolist()})\n"
        "write_segmentation(labels, affine, sys.argv[1], ['liver'], Path(sys.argv[1] + '_seg.dcm'))"
    )
    command = [sys.executable, "-c", code, str(series)]  # pytest shows all warnings, whatever a module says
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(f"{series}_seg.dcm").is_file() and "SECRET" not in done.stdout + done.stderr


def test_what_anonymisation_removed_is_empty(tmp_path: Path) -> None:
    series = write_ct_series(tmp_path / "ct", voxels_of(SHAPE))
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        for tag in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"):
            del image[tag]
        image.save_as(path)
    assert pydicom.dcmread(written(label_map(), series)).PatientID in ("", None)


def test_a_label_map_on_another_grid_is_refused_and_nothing_is_written(series: Path) -> None:
    moved = AXIAL.copy()
    moved[2, 3] += 5.0
    for labels, affine in ((label_map(), moved), (label_map()[:, :, 1:], AXIAL)):
        with pytest.raises(ValueError, match="is not on the grid of the DICOM series"):
            written(labels, series, affine)
    assert not (series.parent / "out").exists()


ODD = {
    "dates": {"StudyDate": "2020-01-01", "StudyTime": "10:10:10", "PatientBirthDate": "01.01.1950"},
    "no such day": {"StudyDate": "20201345", "PatientBirthDate": "1950"},
    "character set": {"SpecificCharacterSet": "Not Supplied"},
    "two character sets": {"SpecificCharacterSet": ["ISO 2022 IR 6", "UTF8"]},
    "no UIDs": {"StudyInstanceUID": None, "SOPInstanceUID": None, "FrameOfReferenceUID": None},
    "empty UIDs": {"StudyInstanceUID": "", "SOPInstanceUID": "", "FrameOfReferenceUID": "", "SeriesInstanceUID": ""},
    "UIDs that are none": {"StudyInstanceUID": "ANON-7", "SOPInstanceUID": "removed", "FrameOfReferenceUID": "1..2"},
    "one UID for all images": {"SOPInstanceUID": "1.2.3"},
    "a person": {"PatientName": "A" * 90, "PatientSex": "unknown", "PatientID": "7" * 80, "PatientAge": "45 years"},
    "numbers": {"PatientWeight": "70,5", "SliceThickness": "5,0", "SeriesNumber": "1A"},
    "nothing": dict.fromkeys(("PatientID", "StudyDate", "StudyTime", "StudyID", "Modality", "Manufacturer")),
}
SAID = {"dates": "emptied PatientBirthDate, StudyDate, StudyTime", "no UIDs": "made StudyInstanceUID"}


def as_text(tag: str, value: str | list[str]) -> RawDataElement:
    """A value as it stands in a file, be it against the standard."""
    number, content = tag_for_keyword(tag), "\\".join([value] if isinstance(value, str) else value).encode()
    return RawDataElement(Tag(number), dictionary_VR(number), len(content), content, 0, False, True)


@pytest.mark.parametrize("name", ODD)
def test_headers_as_anonymisers_leave_them_are_completed_and_the_change_is_said(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    series = write_ct_series(tmp_path / "ct", voxels_of(SHAPE))
    with pydicom.config.disable_value_validation():
        for path in series.iterdir():
            image = pydicom.dcmread(path)
            for tag, value in ODD[name].items():
                if value is None:
                    del image[tag]
                else:
                    image[tag_for_keyword(tag)] = as_text(tag, value)
            image.save_as(path)
    labels = label_map()
    content = hd.seg.segread(written(labels, series))
    assert content.pixel_array.sum() == (labels > 0).sum()
    referred = content.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len({one.ReferencedSOPInstanceUID for one in referred}) == SHAPE[2]
    assert all(pydicom.uid.UID(content[tag].value).is_valid for tag in ("StudyInstanceUID", "FrameOfReferenceUID"))
    assert SAID.get(name, "") in caplog.text


def test_a_dicom_seg_that_cannot_be_written_is_a_warning(
    series: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = MetaTensor(np.zeros((1, 2, 2, 2)), meta={"filename_or_obj": str(series)})
    save = SaveDicomSegmentationd("pred", str(tmp_path / "saved"), ORGANS)
    save({"case": "a", "pred": MetaTensor(label_map()[None, :, :, 1:], affine=AXIAL), "image": image})
    assert "a: no DICOM-SEG is written (ValueError: the label map" in caplog.text
    assert not (tmp_path / "saved").exists()


def test_a_dicom_seg_of_an_earlier_run_goes_where_none_can_be_written(series: Path, tmp_path: Path) -> None:
    save = SaveDicomSegmentationd("pred", str(tmp_path / "saved"), ORGANS)
    image = MetaTensor(np.zeros((1, 2, 2, 2)), meta={"filename_or_obj": str(series)})
    for labels, files in ((label_map(), ["a_seg.dcm"]), (label_map()[:, :, 1:], [])):
        save({"case": "a", "pred": MetaTensor(labels[None], affine=AXIAL), "image": image})
        assert [path.name for path in (tmp_path / "saved").iterdir()] == files


def test_a_full_disk_is_no_warning_since_a_scan_without_its_file_would_count_as_done(
    series: Path, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="there are such limits on POSIX only")
    save = SaveDicomSegmentationd("pred", str(tmp_path / "saved"), ORGANS)
    image, kind = MetaTensor(np.zeros((1, 2, 2, 2)), meta={"filename_or_obj": str(series)}), resource.RLIMIT_FSIZE
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (1000, before[1]))  # bytes of a file
    try:
        with pytest.raises(OSError, match="too large"):
            save({"case": "a", "pred": MetaTensor(label_map()[None], affine=AXIAL), "image": image})
    finally:
        resource.setrlimit(kind, before)
    assert [*(tmp_path / "saved").iterdir()] == []


@pytest.mark.parametrize("known", [None, "ISO_IR 100"])
def test_names_of_organs_and_patients_in_any_language_are_kept(known: str | None, series: Path) -> None:
    patient, organs = "Müller^Jürgen" if known else "Mueller", ["größe", "肝臓", "脾臓", "liver"]
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        if known:
            image.SpecificCharacterSet = known
        image.PatientName = patient
        image.save_as(path)
    for write, names in ((write_segmentation, "SegmentSequence"), (write_structure_set, "StructureSetROISequence")):
        write(label_map(), AXIAL, str(series), organs, series.parent / "result.dcm")
        content = pydicom.dcmread(series.parent / "result.dcm")
        assert [one.get("SegmentLabel") or one.get("ROIName") for one in content[names]] == organs
        assert content.PatientName == patient


def test_as_a_step_of_inference_it_writes_for_series_and_passes_other_scans(series: Path, tmp_path: Path) -> None:
    save = SaveDicomSegmentationd("pred", str(tmp_path / "saved"), ORGANS)
    labels = MetaTensor(label_map()[None], affine=AXIAL)
    for name, path in (("a", series), ("b", tmp_path / "b.nii.gz")):
        image = MetaTensor(np.zeros((1, 2, 2, 2)), meta={"filename_or_obj": str(path)})
        save({"case": name, "pred": labels, "image": image})
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["a_seg.dcm"]


def test_without_highdicom_one_sentence_says_how_to_install_it_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "has_highdicom", False)
    with pytest.raises(ValueError, match="highdicom, which is not installed: `python -m pip install highdicom`"):
        SaveDicomSegmentationd("pred", "out", ORGANS)


SCANS = [INFERENCE, *(name for name in OVERLAYS if Path(name).stem != "voc")]
"""Configs for scans: things on photographs have no place in a DICOM-SEG."""
LISTED = sorted({organ for name in SCANS for organ in load(name).get("organs", [])})


@pytest.mark.parametrize(
    ("organ", "value", "side"),
    [
        ("spleen", "78961009", None),
        ("right_kidney", "64033007", "24028007"),
        ("left_adrenal_gland", "23451007", "7771000"),
        ("parotid_left", "45289007", "7771000"),
        ("inferior_vena_cava", "64131007", None),
    ],
)
def test_an_organ_has_the_code_of_its_structure_and_of_its_side(organ: str, value: str, side: str | None) -> None:
    structure, laterality = organ_code(organ)
    assert structure.value == value
    assert (laterality and laterality.value) == side


@pytest.mark.parametrize("organ", LISTED)
def test_every_organ_of_the_configs_has_a_code_of_its_own(organ: str) -> None:
    assert organ_code(organ)[0] != codes.SCT.AnatomicalStructure


def test_an_organ_that_nobody_knows_is_some_anatomical_structure() -> None:
    assert organ_code("my_own_region") == (codes.SCT.AnatomicalStructure, None)
