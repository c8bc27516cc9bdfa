"""Reference labels: file values of a dataset -> class indices of the config's organs."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from scripts.dataset.case_check import CaseFindings, count_values
from scripts.dataset.label_values import values_of
from scripts.dataset.problems import Kind, Problem, VolumeError
from scripts.dataset.scan_rules import other_grid
from scripts.preprocessing.scan_reader import load_volume

IGNORED = 255
"""Stored label of a pixel whose truth is unknown (PASCAL VOC: object borders); no loss and no score counts it."""


def load_organ_labels(
    case: Mapping[Any, Any], organs: Sequence[str], key: Hashable = "label", scan: MetaTensor | None = None
) -> MetaTensor:
    """Label map [1, i, j, k] uint8 of a case on the scan's grid, with class indices in the order of `organs`.

    The case's label_values say which file value (or values) an organ has, by default its class index; its
    ignored_value, if there is one, becomes IGNORED. Labels on another grid than that of a given scan are refused, and
    those with a value that a data set (known_values) does not declare: as background it would spoil training or scores.
    """
    loaded = as_volume(load_volume(case[key], as_stored=True))
    if scan is not None:
        scan = as_volume(scan)
        difference = other_grid(loaded.shape[1:], np.asarray(loaded.affine), scan.shape[1:], np.asarray(scan.affine))
        if difference:
            raise VolumeError(Problem(Kind.GRID, str(case[key]), difference))
    if "known_values" in case:
        count_values(loaded.numpy(), case, findings := CaseFindings())
        if findings.problems:
            raise VolumeError(findings.problems[0])
    values = case.get("label_values", {organ: index for index, organ in enumerate(organs, start=1)})
    named = [(v, index) for index, organ in enumerate(organs, start=1) for v in values_of(values.get(organ, ()))]
    if case.get("ignored_value") is not None:
        named.append((case["ignored_value"], IGNORED))
    return MetaTensor(_relabel(loaded.as_tensor().numpy(), named), affine=loaded.affine)


def _relabel(file_values: NDArray[Any], named: Sequence[tuple[float, int]]) -> Tensor:
    """Class indices uint8 of file values, rounded if need be; of pairs (file value, class index) the last counts."""
    rounded = file_values if file_values.dtype.kind in "iub" else np.rint(file_values)
    labels: NDArray[np.uint8] = np.zeros(rounded.shape, np.uint8)
    if 0 <= rounded.min() and rounded.max() <= 255:  # a table, a tenth of the time of comparing with each value
        table = bytearray(256)
        for value, index in named:
            if value in range(256):
                table[int(value)] = index
        labels.reshape(-1)[:] = np.frombuffer(rounded.astype(np.uint8).tobytes().translate(table), np.uint8)
    else:
        for value, index in named:
            labels[rounded == value] = index
    return torch.from_numpy(labels)


class LoadOrganLabelsd(MapTransform):
    """Contoured organs by :func:`load_organ_labels`, to score against; a case without label stays as it is."""

    def __init__(self, keys: KeysCollection, organs: Sequence[str]) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.organs = list(organs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the labels under the keys."""
        loaded, case, scan = dict(data), dict(data), data.get("image")
        if "label_values" in case and "annotated" in case:
            case["label_values"] = {name: v for name, v in case["label_values"].items() if name in case["annotated"]}
        for key in self.key_iterator(loaded):
            loaded[key] = load_organ_labels(case, self.organs, key, scan if isinstance(scan, MetaTensor) else None)
        return loaded


def as_volume(image: MetaTensor) -> MetaTensor:
    """Give a photograph or its label map [channel, x, y] a third axis of length 1; a volume is returned as it is."""
    if image.dim() != 3:
        return image
    volume = cast("MetaTensor", image.unsqueeze(-1))
    volume.meta.setdefault("original_affine", np.asarray(image.affine))
    volume.meta["spatial_shape"] = np.asarray(volume.shape[1:])
    return volume
