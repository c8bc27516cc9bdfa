"""One measurement of a scan goes to report, table, JSON and DICOM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from ct_series import AXIAL
from monai.data import MetaTensor
from structure_sets import ORGANS, label_map, write_series

from scripts.outputs.dicom_segmentation import SaveDicomSegmentationd
from scripts.outputs.measures import MeasureOrgansd, SaveStatisticsd, findings_in
from scripts.outputs.scan_outputs import RESULT
from scripts.outputs.structure_set import SaveStructureSetd


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    series = write_series(tmp_path / "ct")
    image = MetaTensor(np.zeros((1, *label_map().shape)), meta={"filename_or_obj": str(series), "warnings": "odd\nold"})
    return {"case": "anna", "image": image, "pred": MetaTensor(label_map()[None], affine=AXIAL)}


def noted(item: dict[str, Any], estimates: dict[str, float]) -> dict[str, Any]:
    return {**item, RESULT: {"soft_dice": dict.fromkeys(estimates, 0.9), "estimated_dice": estimates}}


def test_the_statistics_are_the_findings_with_warnings_and_what_they_were_made_with(
    item: dict[str, Any], tmp_path: Path
) -> None:
    measured = MeasureOrgansd("pred", ORGANS)(noted(item, {ORGANS[0]: 0.41234}))
    step = SaveStatisticsd("pred", str(tmp_path))
    step.note_run({"bundle": "mine 1.0"})
    step(measured)
    assert findings_in(tmp_path / "anna_statistics.json") == measured["measures"]
    content = json.loads((tmp_path / "anna_statistics.json").read_text())
    assert content["warnings"] == ["odd", "old"] and content["run"] == {"bundle": "mine 1.0"}
    first, second, *_ = measured["measures"]
    assert (first.estimated_dice, first.doubtful) == (0.412, True)
    assert (second.estimated_dice, second.doubtful) == (None, False)


def test_the_scan_is_read_once_for_all_that_show_it(item: dict[str, Any]) -> None:
    voxels = np.full(label_map().shape, 7.0)
    measured = MeasureOrgansd("pred", ORGANS)({**item, "scan": voxels})
    assert {finding.mean_hu for finding in measured["measures"] if finding.volume_ml} == {7.0}
    assert measured["scan"] is voxels


def test_structure_set_and_segmentation_describe_each_organ_by_its_estimate(
    item: dict[str, Any], tmp_path: Path
) -> None:
    for step in (SaveStructureSetd, SaveDicomSegmentationd):
        step("pred", str(tmp_path), ORGANS)(noted(item, {ORGANS[1]: 0.876}))
    plain, estimated = "Found automatically; research only", "Found automatically; research only; estimated Dice 0.88"
    wanted = [estimated if organ == ORGANS[1] else plain for organ in ORGANS]
    structures = pydicom.dcmread(tmp_path / "anna_rtstruct.dcm").StructureSetROISequence
    assert [roi.ROIDescription for roi in structures] == wanted
    segments = hd.seg.segread(tmp_path / "anna_seg.dcm").SegmentSequence
    assert [segment.SegmentDescription for segment in segments] == wanted
