"""Intersection over union over all pixels of a set, as PASCAL VOC scores it: one confusion matrix, background included.

devkit, VOCevalseg.m: IoU of a class = true positives / (true positives + false positives + false negatives) over all
images together, pixels of value 255 left out; the score is the mean over the classes. A class that neither occurs nor
is predicted has no IoU (0 / 0 there) and is left out of the mean here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine
from ignite.metrics import MetricsLambda, VariableAccumulation
from torch import Tensor

from scripts.evaluation.handler import ScoreHandler
from scripts.evaluation.score_tables import markdown_table
from scripts.files.atomic_write import write_text

BACKGROUND = "background"
COLUMNS = ("class", "class_index", "iou", "reference_pixels", "predicted_pixels", "common_pixels")
MEAN, MEAN_OF_CLASSES = "mean", "mean without background"


def class_ious(matrix: Tensor) -> Tensor:
    """IoU of each class of a matrix [reference, prediction], NaN if in neither: [[3, 1], [0, 4]] gives 3/4 and 4/5."""
    counts = matrix.double()
    common = counts.diag()
    return common / (counts.sum(dim=0) + counts.sum(dim=1) - common)


def confusion_matrix(item: Mapping[str, Any], classes: int) -> Tensor:
    """Pixels of each pair of classes [reference, prediction] in the label maps "label", "pred" [1, ...] of an item."""
    label, prediction = (torch.as_tensor(item[key])[0].cpu().long() for key in ("label", "pred"))
    known = label < classes
    return torch.bincount(label[known] * classes + prediction[known], minlength=classes**2).reshape(classes, classes)


def mean_iou_metric(classes: int) -> MetricsLambda:
    """The mean IoU of a validation as an ignite metric; the number of classes includes the background."""
    matrix = VariableAccumulation(torch.add, lambda output: sum(confusion_matrix(item, classes) for item in output))
    return MetricsLambda(lambda counted: float(class_ious(counted[0]).nanmean()), matrix)


class PixelScoreHandler(ScoreHandler):
    """Confusion matrix of every photograph, a row for each class of the reference; iou.csv of their sum."""

    kinds = ("pixel_counts",)
    tables = ("iou.csv",)

    def score(self, item: Mapping[str, Any]) -> Any:
        """The confusion matrix of a photograph, background first."""
        return confusion_matrix(item, 1 + len(self.organs)).tolist()

    def report(self, engine: Engine, scores: Sequence[Any]) -> None:
        """Write iou.csv and print it with its means."""
        names = [BACKGROUND, *self.organs]
        empty = torch.zeros(len(names), len(names), dtype=torch.long)
        frame = iou_frame(sum(map(torch.tensor, scores), empty), names)
        write_text(self.output_dir / self.tables[0], frame.to_csv(index=False, lineterminator="\n"))
        rows = [[str(name), "-" if pd.isna(iou) else f"{iou:.3f}"] for name, iou in with_means(frame).items()]
        print(markdown_table(["class", self.title], rows))


def iou_frame(matrix: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """A row for each class with the COLUMNS."""
    pixels = (matrix.sum(dim=1), matrix.sum(dim=0), matrix.diag())
    values = (names, range(len(names)), class_ious(matrix).tolist(), *(counts.long().tolist() for counts in pixels))
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def with_means(frame: pd.DataFrame) -> pd.Series[float]:
    """IoU by class, then the mean over all classes (VOC's mIoU) and the mean without the background."""
    ious = frame.set_index("class")["iou"]
    means = pd.Series({MEAN: ious.mean(), MEAN_OF_CLASSES: ious.drop(BACKGROUND).mean()})
    both: pd.Series[float] = pd.concat([ious, means])
    return both
