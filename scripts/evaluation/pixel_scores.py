"""Intersection over union over all pixels of a set, as PASCAL VOC scores it: one confusion matrix, background included.

devkit, VOCevalseg.m: IoU of a class = true positives / (true positives + false positives + false negatives) over all
images together, pixels of value 255 left out; the score is the mean over the classes. A class that neither occurs nor
is predicted has no IoU (0 / 0 there) and is left out of the mean here.

Print the table of runs, each an `iou.csv` that an evaluation left behind; runs of one name are averaged (seeds):

    python -m scripts.evaluation.pixel_scores slice/iou.csv final/iou.csv --names slice final
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from ignite.engine import Engine, Events
from ignite.metrics import ConfusionMatrix, MetricsLambda
from torch import Tensor
from torch.nn.functional import one_hot

from scripts.evaluation.score_tables import markdown_table, read_runs
from scripts.files.atomic_write import replacing
from scripts.files.result_files import result_path
from scripts.runtime.plain_errors import install_plain_errors

BACKGROUND = "background"
COLUMNS = ("class", "class_index", "iou", "reference_pixels", "predicted_pixels", "common_pixels")
MEAN, MEAN_OF_CLASSES = "mean", "mean without background"


def class_ious(matrix: Tensor) -> Tensor:
    """IoU of each class of a confusion matrix [reference, prediction]; NaN where a class is in neither.

    Example: [[3, 1], [0, 4]] gives 3 / 4 and 4 / 5.
    """
    counts = matrix.double()
    common = counts.diag()
    return common / (counts.sum(dim=0) + counts.sum(dim=1) - common)


def confusion_inputs(classes: int) -> Callable[[Any], tuple[list[Tensor], list[Tensor]]]:
    """Output of an evaluator, label maps "pred" and "label" [1, ...] -> what ignite's ConfusionMatrix takes."""

    def transform(output: Any) -> tuple[list[Tensor], list[Tensor]]:
        predictions = [torch.as_tensor(item["pred"])[0].cpu().long() for item in output]
        one_hots = [one_hot(labels, classes).movedim(-1, 0).to(torch.uint8) for labels in predictions]
        return one_hots, [torch.as_tensor(item["label"])[0].cpu().long() for item in output]

    return transform


def mean_iou_metric(classes: int) -> MetricsLambda:
    """The mean IoU of a validation as an ignite metric.

    Args:
        classes: their number, background included.
    """
    matrix = ConfusionMatrix(classes, output_transform=confusion_inputs(classes), skip_unrolling=False)
    return MetricsLambda(lambda counts: float(class_ious(counts).nanmean()), matrix)


class PixelScoreHandler:
    """Handler of a `ScanEvaluator` whose items have "pred" and "label" on the photograph's grid: counts for each one.

    Args:
        cases: case dictionaries.
        organs: class names in the order of their indices, without background.
        output_dir: folder of the counts and of iou.csv.
        title: name of the method.
    """

    kinds = ("pixel_counts",)
    tables = ("iou.csv",)

    def __init__(self, cases: Sequence[Mapping[str, Any]], organs: Sequence[str], output_dir: str, title: str) -> None:
        self._cases, self.names = [str(case["case"]) for case in cases], [BACKGROUND, *organs]
        self.output_dir, self.title = Path(output_dir), title
        self.settings = {"title": title, "organs": list(organs)}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Write the confusion matrix of a photograph, a row for each class of the reference."""
        matrix = ConfusionMatrix(len(self.names))
        for prediction, label in zip(*confusion_inputs(len(self.names))([item]), strict=True):
            matrix.update((prediction[None], label[None]))
        with replacing(result_path(self.output_dir, str(item["case"]), self.kinds[0])) as temporary:
            temporary.write_text(json.dumps(matrix.confusion_matrix.tolist()))
        return item

    def _report(self, engine: Engine) -> None:
        evaluator = cast(Any, engine)
        if not evaluator.is_last:
            return
        cases = [case for case in self._cases if case not in evaluator.failures]
        matrix = torch.zeros(len(self.names), len(self.names), dtype=torch.long)
        for case in cases:
            matrix += torch.tensor(json.loads(result_path(self.output_dir, case, self.kinds[0]).read_text()))
        frame = iou_frame(matrix, self.names)
        with replacing(self.output_dir / "iou.csv") as temporary:
            frame.to_csv(temporary, index=False)
        print(iou_table({self.title: [frame]}))


def iou_frame(matrix: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """A row for each class with the COLUMNS."""
    return pd.DataFrame(
        {
            "class": list(names),
            "class_index": range(len(names)),
            "iou": class_ious(matrix).tolist(),
            "reference_pixels": matrix.sum(dim=1).long().tolist(),
            "predicted_pixels": matrix.sum(dim=0).long().tolist(),
            "common_pixels": matrix.diag().long().tolist(),
        },
        columns=list(COLUMNS),
    )


def with_means(frame: pd.DataFrame) -> pd.Series:
    """IoU by class, then the mean over all classes (VOC's mIoU) and the mean without the background."""
    ious = frame.set_index("class")["iou"]
    means = pd.Series({MEAN: ious.mean(), MEAN_OF_CLASSES: ious.drop(BACKGROUND).mean()})
    both: pd.Series[Any] = pd.concat([ious, means])
    return both


def iou_table(runs: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Markdown: a row for each class, a column for each name; several runs of a name give their mean and range."""
    columns = {name: pd.concat([with_means(frame) for frame in frames], axis=1) for name, frames in runs.items()}
    rows = next(iter(columns.values())).index
    body = [[str(row), *(_cell(of_name.loc[row]) for of_name in columns.values())] for row in rows]
    return markdown_table(["class", *columns], body)


def _cell(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "-"
    mean = f"{known.mean():.3f}"
    return mean if len(known) == 1 else f"{mean} ({known.min():.3f}-{known.max():.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of several runs."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluation.pixel_scores", description="Print the IoU of several runs side by side."
    )
    parser.add_argument("files", nargs="+", help="iou.csv of each run, or FILE::RUN")
    parser.add_argument("--names", nargs="+", required=True, help="a name for each file; one name for seeds of a run")
    given = parser.parse_args(arguments)
    if len(given.names) != len(given.files):
        parser.error(f"{len(given.files)} files and {len(given.names)} names; give a name for each file.")
    runs: dict[str, list[pd.DataFrame]] = {}
    for name, file in zip(given.names, given.files, strict=True):
        runs.setdefault(name, []).append(read_runs(file, COLUMNS))
    print(iou_table(runs))
    return 0


if __name__ == "__main__":
    install_plain_errors()
    raise SystemExit(main())
