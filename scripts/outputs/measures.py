"""What is measured of a segmented scan, once for all that shows it: volume, HU and estimated Dice of each organ."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray

from scripts.files.atomic_write import write_text
from scripts.outputs.scan_outputs import RESULT, SCAN, SIGNS, ScanSaverd, scan_name, voxels_of
from scripts.preprocessing.scan_reader import WARNINGS

LOOK_AT = 0.6  # organs of which a lower Dice is estimated are pointed out; our choice
MEASURES = "measures"  # key of the findings of a scan
MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class OrganFinding:
    """Measures of one organ, 0 ml and no HU if it was not found; soft and estimated Dice where they are known.

    `cut_off` says whether it reaches the edge of the scan, so that a part of it may lie outside.
    """

    organ: str
    class_index: int
    volume_ml: float
    mean_hu: float | None
    cut_off: bool
    soft_dice: float | None = None
    estimated_dice: float | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the organ is pointed out."""
        return self.estimated_dice is not None and self.estimated_dice < LOOK_AT


def organ_measures(
    image: NDArray[Any],
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    organs: Sequence[str],
    classes: Sequence[int] | None = None,
    noted: Mapping[str, Mapping[str, float]] | None = None,
) -> list[OrganFinding]:
    """Measure the organs of these class indices (None: all) in a CT [x, y, z] in HU and its label map.

    The class index of an organ is its position in `organs` + 1. The affine, 4 x 4, leads from voxel indices to mm;
    `noted` are further measures by name and organ. ValueError: the shapes differ, or a class index has no name.
    """
    highest = int(labels.max(initial=0))
    if image.shape != labels.shape or highest > len(organs):
        shapes = f"image and label map have the shapes {image.shape} and {labels.shape}"
        found = f"the highest class index is {highest} of {len(organs)} organs"
        raise ValueError(f"{shapes}, and {found}: give a label map on the scan's grid.")
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / MM3_PER_ML
    count, known = len(organs) + 1, noted or {}
    voxels, total_hu = np.zeros(count, dtype=np.intp), np.zeros(count)
    for z in range(labels.shape[2]):  # a slice, since counting takes 16 bytes a voxel
        flat = labels[:, :, z].ravel()
        voxels += np.bincount(flat, minlength=count)
        total_hu += np.bincount(flat, weights=image[:, :, z].ravel(), minlength=count)
    at_edge = {int(value) for axis in range(3) for value in np.unique(np.take(labels, [0, -1], axis=axis))}
    return [
        OrganFinding(
            organ=organ,
            class_index=index,
            volume_ml=float(voxels[index] * voxel_ml),
            mean_hu=float(total_hu[index] / voxels[index]) if voxels[index] else None,
            cut_off=index in at_edge,
            **{name: round(found[organ], 3) for name, found in known.items() if voxels[index] and organ in found},
        )
        for index, organ in enumerate(organs, start=1)
        if classes is None or index in classes
    ]


class MeasureOrgansd(MapTransform):
    """Note the findings of label maps [1, i, j, k] on the scan's grid under `MEASURES`, and its voxels under `SCAN`.

    `organs` are names in the order of their class indices, `classes` the indices of those that were looked for.
    """

    def __init__(self, keys: KeysCollection, organs: Sequence[str], classes: Sequence[int] | None = None) -> None:
        super().__init__(keys)
        self.organs, self.classes = list(organs), classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure what lies under the keys."""
        image, measured = voxels_of(data), dict(data)
        for key in self.key_iterator(measured):
            labels, affine = data[key][0].cpu().numpy(), data[key].affine.numpy()
            noted = {name: data.get(RESULT, {}).get(name, {}) for name in ("soft_dice", "estimated_dice")}
            measured[MEASURES] = organ_measures(image, labels, affine, self.organs, self.classes, noted)
        return measured | {SCAN: image}


class SaveStatisticsd(ScanSaverd):
    """Write `<case>_statistics.json`: the findings, warnings, signs of the scan, and what they were made with."""

    kinds = ("statistics",)

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        content = {
            "case": scan_name(data),
            "organs": [asdict(finding) for finding in data[MEASURES]],
            "warnings": str(data["image"].meta.get(WARNINGS, "")).splitlines(),
            "signs": data.get(SIGNS, {}),
            "run": self._run,
        }
        write_text(path, json.dumps(content, indent=1) + "\n")


def findings_in(path: Path) -> list[OrganFinding]:
    """The findings of a file of :class:`SaveStatisticsd`."""
    return [OrganFinding(**finding) for finding in json.loads(path.read_text(encoding="utf-8"))["organs"]]
