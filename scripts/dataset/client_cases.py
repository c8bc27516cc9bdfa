"""Cases as a labelling client hands them over, an image and a label, completed to what every stage consumes.

MONAI Label passes two paths and nothing else. Which value of a label file is which organ it notes beside its studies,
in ``datastore_v2.json``: 3D Slicer numbers the segments that a person had when the label was saved, and that need not
be the order of the bundle's organs. So the names count where there are any::

    {"image": "/studies/x.nii.gz", "label": "/studies/labels/final/x.nii.gz"}

becomes, for ``organs=["spleen", "liver"]`` and the noted segments ``liver`` = 1 and ``cyst`` = 2::

    {"case": "x", "image": ..., "label": ..., "annotated": ["liver"], "phase": None, "label_values": {"liver": 1},
     "known_values": [0, 1, 2]}

An organ without a segment was not contoured: it is unknown in that case, not absent. Of a label from a DICOM archive
nothing is noted; its names are those in the DICOM-SEG that MONAI Label keeps beside it. OHIF numbers by the alphabet.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset

from scripts.dataset.datalist_file import case_name
from scripts.dicom.headers import pydicom

DATASTORE = "datastore_v2.json"
logger = logging.getLogger(__name__)


def complete_cases(cases: Sequence[Mapping[str, Any]], organs: Sequence[str]) -> list[dict[str, Any]]:
    """Complete the cases that a client handed over, of which only ``image`` is required, for the config's organs.

    Cases of a datalist stay as they are. A label whose named segments are none of the organs is refused.
    """
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
    segments = noted_segments(case["label"]) if case.get("label") else {}
    if segments:
        values = {organ: segments[organ.casefold()] for organ in organs if organ.casefold() in segments}
        if not values:
            raise ValueError(
                f"the label {case['label']} has the segments {', '.join(segments)}, and the bundle's organs are "
                f"{', '.join(organs)}: give the segments the names of the organs they show, and save the label again."
            )
        if others := sorted(set(segments) - {organ.casefold() for organ in organs}):
            logger.info("%s: segments that are none of the organs become background: %s.", case["label"], others)
        completed["annotated"] = list(values)
    return {**completed, "label_values": values, "known_values": sorted({0, *values.values(), *segments.values()})}


def noted_segments(label: str) -> dict[str, int]:
    """Name (case folded) and value of each segment of a label, from MONAI Label or the DICOM-SEG; else empty."""
    path = Path(label)  # <studies>/labels/<tag>/<name>, and from an archive <series of the DICOM-SEG>/*.dcm beside it
    store = path.parent.parent.parent / DATASTORE
    if not store.is_file():
        return {}
    objects = json.loads(store.read_text(encoding="utf-8")).get("objects", {})
    noted = [item.get("labels", {}).get(path.parent.name, {}).get("info", {}) for item in objects.values()]
    found: dict[str, Any] = next((info for info in noted if info.get("name") == path.name), {})
    if found.get("SeriesInstanceUID") and (files := [*(path.parent / found["SeriesInstanceUID"]).glob("*.dcm")]):
        of_archive = pydicom.dcmread(files[0], stop_before_pixels=True).SegmentSequence
        return {str(one.SegmentLabel).casefold().replace(" ", "_"): int(one.SegmentNumber) for one in of_archive}
    segments = found.get("label_info") or []
    return {str(item["name"]).casefold(): int(item["idx"]) for item in segments if {"name", "idx"} <= item.keys()}
