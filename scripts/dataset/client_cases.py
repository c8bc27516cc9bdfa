"""Cases as a labelling client hands them over, an image and a label, completed to what every stage consumes.

MONAI Label passes two paths, and notes in ``datastore_v2.json`` which value of a label file is which organ. 3D Slicer
numbers a person's segments, in another order than the bundle's organs. So names count where there are any::

    {"image": "/studies/x.nii.gz", "label": "/studies/labels/final/x.nii.gz"}

becomes, for ``organs=["spleen", "liver"]`` and the noted segments ``liver`` = 1 and ``cyst`` = 2::

    {"case": "x", "image": ..., "label": ..., "annotated": ["liver"], "phase": None, "label_values": {"liver": 1},
     "known_values": [0, 1, 2]}

An organ without a segment was not contoured: it is unknown in that case, not absent. For a label of a DICOM archive
nothing is noted: its names are in the DICOM-SEG beside it (OHIF sorts them), and the slices it leaves out are added.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset
from monai.utils.module import optional_import

from scripts.dataset.datalist_file import case_name
from scripts.dataset.label_values import plain_name
from scripts.dicom.headers import pydicom
from scripts.files.atomic_write import replacing

itk, _ = optional_import("itk")

DATASTORE = "datastore_v2.json"
logger = logging.getLogger(__name__)


def complete_cases(cases: Sequence[Mapping[str, Any]], organs: Sequence[str]) -> list[dict[str, Any]]:
    """Complete the cases of a client, of which only ``image`` is required; those of a datalist stay as they are."""
    return [dict(case) if "case" in case else _completed(case, organs) for case in cases]


class LabelledScans(Dataset):
    """MONAI's Dataset of cases that may come from a client: MONAI Label puts its own in the place of ``data``."""

    def __init__(
        self, data: Sequence[Mapping[str, Any]], organs: Sequence[str], transform: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(data=complete_cases(data, organs), transform=transform)


def _completed(case: Mapping[str, Any], organs: Sequence[str]) -> dict[str, Any]:
    completed = {"case": case_name(str(case["image"])), "phase": None, **case, "annotated": list(organs)}
    values = {organ: index for index, organ in enumerate(organs, start=1)}
    if case.get("label") and _archived(case["label"]):
        _put_on_grid(case["label"], case["image"])
    segments = noted_segments(case["label"]) if case.get("label") else {}
    if segments:
        names = {plain_name(organ): organ for organ in organs}
        values = {organ: segments[name] for name, organ in names.items() if name in segments}
        if not values:
            found = f"the segments {', '.join(segments)}, and the bundle's organs are {', '.join(organs)}"
            raise ValueError(f"the label {case['label']} has {found}: name them after organs, and save it again.")
        if others := sorted(set(segments) - set(names)):
            logger.info("%s: segments that are none of the organs become background: %s.", case["label"], others)
        completed["annotated"] = list(values)
    return {**completed, "label_values": values, "known_values": sorted({0, *values.values(), *segments.values()})}


def noted_segments(label: str) -> dict[str, int]:
    """Name, spelled like ``left_kidney``, and value of each segment of a label, from MONAI Label or the DICOM-SEG."""
    found = [(one["name"], one["idx"]) for one in _noted(label).get("label_info") or [] if {"name", "idx"} <= {*one}]
    if not found and (files := _archived(label)):  # else MONAI Label may have named the wrong segments in it
        of_archive = pydicom.dcmread(files[0], stop_before_pixels=True).SegmentSequence
        found = [(one.SegmentLabel, one.SegmentNumber) for one in of_archive]
    if not found and (series := _noted(label).get("SeriesInstanceUID")):
        gone = f"its DICOM-SEG, series {series}, does not lie beside it"
        raise ValueError(f"the segments of {label} have no names, since {gone}: let the server fetch both.")
    return {plain_name(str(name)): int(number) for name, number in found}


def _noted(label: str) -> dict[str, Any]:
    """What MONAI Label notes of a label; empty where it noted nothing."""
    path = Path(label)  # <studies>/labels/<tag>/<name>
    store = path.parent.parent.parent / DATASTORE
    if not store.is_file():
        return {}
    objects = json.loads(store.read_text(encoding="utf-8")).get("objects", {})
    noted = [item.get("labels", {}).get(path.parent.name, {}).get("info", {}) for item in objects.values()]
    return next((info for info in noted if info.get("name") == path.name), {})


def _archived(label: str) -> list[Path]:
    """The DICOM-SEG that a label was made of, if it is from an archive."""
    series = _noted(label).get("SeriesInstanceUID")
    return sorted((Path(label).parent / series).glob("*.dcm")) if series else []


def _put_on_grid(label: str, image: str) -> None:
    found, scan = itk.imread(label), itk.imread(image)
    if found.IsSameImageGeometryAs(scan):
        return  # of an earlier training: a file that is written again is resampled again by all that keeps its slices
    nearest = itk.NearestNeighborInterpolateImageFunction.New(found)
    whole = itk.resample_image_filter(found, interpolator=nearest, use_reference_image=True, reference_image=scan)
    with replacing(label) as temporary:
        itk.imwrite(whole, str(temporary))
