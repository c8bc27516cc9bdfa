from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from scripts.dataset.client_cases import DATASTORE, LabelledScans, complete_cases, noted_segments

ORGANS = ["spleen", "Liver", "aorta"]


def study(folder: Path, segments: list[dict[str, Any]] | None = None, name: str = "x") -> dict[str, str]:
    """A case in the layout of MONAI Label's datastore, with the segments that it noted."""
    path = folder / DATASTORE
    content = json.loads(path.read_text()) if path.exists() else {"name": "new-dataset", "objects": {}}
    info = {"ts": 1, "name": f"{name}.nii.gz", **({} if segments is None else {"label_info": segments})}
    labels = {
        "original": {"ext": ".nii.gz", "info": {"name": f"{name}.nii.gz"}},
        "final": {"ext": ".nii.gz", "info": info},
    }
    content["objects"][name] = {"image": {"ext": ".nii.gz", "info": {}}, "labels": labels}
    path.write_text(json.dumps(content))
    return {"image": str(folder / f"{name}.nii.gz"), "label": str(folder / f"labels/final/{name}.nii.gz")}


def test_the_names_of_the_segments_say_which_value_is_which_organ(tmp_path: Path) -> None:
    study(tmp_path, [{"name": "aorta", "idx": 1}], name="y")
    case = study(tmp_path, [{"name": "liver", "idx": 1}, {"name": "Spleen", "idx": 2}, {"name": "cyst", "idx": 3}])
    assert complete_cases([case], ORGANS) == [
        {
            **case,
            "case": "x",
            "phase": None,
            "annotated": ["spleen", "Liver"],
            "label_values": {"spleen": 2, "Liver": 1},
            "known_values": [0, 1, 2, 3],
        }
    ]


def test_a_name_may_be_typed_with_spaces_and_capitals(tmp_path: Path) -> None:
    case = study(tmp_path, [{"name": "Left Kidney ", "idx": 4}, {"name": "portal vein", "idx": 2}])
    completed = complete_cases([case], ["left_kidney", "Portal Vein", "aorta"])[0]
    assert completed["label_values"] == {"left_kidney": 4, "Portal Vein": 2}


@pytest.mark.parametrize("segments", [None, []])
def test_without_names_the_values_are_class_indices(segments: list[Any] | None, tmp_path: Path) -> None:
    completed = complete_cases([study(tmp_path, segments)], ORGANS)[0]
    assert completed["label_values"] == {"spleen": 1, "Liver": 2, "aorta": 3}
    assert completed["annotated"] == ORGANS
    assert completed["known_values"] == [0, 1, 2, 3]


def test_a_label_outside_of_a_datastore_has_no_names(tmp_path: Path) -> None:
    assert noted_segments(str(tmp_path / "a/b/c.nii.gz")) == {}


def test_segments_of_other_names_only_are_refused(tmp_path: Path) -> None:
    case = study(tmp_path, [{"name": "Segment_1", "idx": 1}])
    with pytest.raises(
        ValueError, match="has the segments segment_1, and the bundle's organs are spleen, Liver, aorta"
    ):
        complete_cases([case], ORGANS)


def test_cases_of_a_datalist_stay_as_they_are(tmp_path: Path) -> None:
    case = {"case": "z", **study(tmp_path, [{"name": "liver", "idx": 7}]), "label_values": {"spleen": 4}}
    assert LabelledScans([case], ORGANS)[0] == case


def test_a_label_from_an_archive_has_the_names_in_its_dicom_seg_and_gets_the_slices_without_a_segment(
    tmp_path: Path,
) -> None:
    case = study(tmp_path, [{"name": "liver", "idx": 3}])
    label = np.random.default_rng(0).integers(0, 3, (6, 5, 4), np.uint8)  # [slice, row, column], as ITK stores them
    label[[0, 4, 5]] = 0
    (tmp_path / "labels/final").mkdir(parents=True)
    for path, voxels, first in (("image", label, 0), ("label", label[1:4], 1)):
        volume = itk.image_from_array(voxels)
        volume.SetSpacing([2.0, 3.0, 5.0])
        volume.SetOrigin([-10.0, 20.0, 7.0 + 5.0 * first])
        itk.imwrite(volume, case[path])
    path, series = tmp_path / DATASTORE, "1.2.3"
    content = json.loads(path.read_text())
    content["objects"]["x"]["labels"]["final"]["info"] |= {"SeriesInstanceUID": series}
    path.write_text(json.dumps(content))
    assert noted_segments(case["label"]) == {"liver": 3}  # as long as it is not there
    del content["objects"]["x"]["labels"]["final"]["info"]["label_info"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="have no names, since its DICOM-SEG, series 1.2.3, does not lie beside it"):
        complete_cases([case], ORGANS)
    segmentation = Dataset()
    segmentation.SegmentSequence = [Dataset(), Dataset()]
    for one, (number, name) in zip(segmentation.SegmentSequence, [(1, "aorta"), (2, "Right kidney")], strict=True):
        one.SegmentNumber, one.SegmentLabel = number, name
    (folder := tmp_path / "labels/final" / series).mkdir(parents=True)
    segmentation.SOPClassUID, segmentation.SOPInstanceUID = SegmentationStorage, "1.2.3.4"
    segmentation.file_meta = FileMetaDataset()
    segmentation.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    segmentation.save_as(folder / "seg.dcm", enforce_file_format=True)
    assert noted_segments(case["label"]) == {"aorta": 1, "right_kidney": 2}
    assert complete_cases([case], ORGANS)[0]["label_values"] == {"aorta": 1}
    whole = itk.imread(case["label"])
    np.testing.assert_array_equal(itk.array_from_image(whole), label)
    assert list(whole.GetOrigin()) == [-10, 20, 7]
    # MONAI Label numbers the names of a client's label anew in its DICOM-SEG, and hands out the label as it was.
    content["objects"]["x"]["labels"]["final"]["info"]["label_info"] = [{"name": "liver", "idx": 2}]
    path.write_text(json.dumps(content))
    assert noted_segments(case["label"]) == {"liver": 2}
    os.utime(case["label"], (1, 1))
    complete_cases([case], ORGANS)
    assert os.stat(case["label"]).st_mtime == 1, "a label that is on the grid is not written again"
