"""Scoring during an evaluator's run: each scan with its results, the report at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
from ignite.engine import Engine, Events

from scripts.evaluation.case_scores import CaseScore, score_case
from scripts.evaluation.summary import MACRO_ROW, format_table, patients_to_look_at, scores_frame, write_report
from scripts.files.atomic_write import replacing
from scripts.files.result_files import result_path


def dice_metrics(summary: pd.DataFrame) -> dict[str, float]:
    """Mean Dice as metrics of an engine, which trackers read: "dice" over all organs, "dice/<organ>" of each."""
    names = {organ: "dice" if organ == MACRO_ROW else f"dice/{organ}" for organ in summary.index}
    return {names[organ]: float(mean) for organ, mean in summary["dice_mean"].dropna().items()}


class CaseScoreHandler:
    """Handler of a `ScanEvaluator` whose items have "pred" and "label" on the scan's own grid: a file of scores each.

    The report is made of these files when the epoch ends, and its mean Dice becomes metrics of the engine.

    Args:
        cases: case dictionaries; say which organs were contoured.
        organs: organ names in the order of their class indices.
        output_dir: folder of these files, scores.csv, summary.csv, summary.json and dice.png.
        title: name of the method.
        surface_tolerance_mm: tolerance of the surface Dice, in mm.
    """

    kinds = ("case_scores",)
    tables = ("scores.csv", "summary.csv", "summary.json", "dice.png")

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        organs: Sequence[str],
        output_dir: str,
        title: str,
        surface_tolerance_mm: float = 3.0,
    ) -> None:
        self._annotated = {str(case["case"]): case.get("annotated", list(organs)) for case in cases}
        self.organs, self.output_dir, self.title = list(organs), output_dir, title
        self.surface_tolerance_mm = surface_tolerance_mm
        self.settings = {"title": title, "organs": self.organs, "surface_tolerance_mm": surface_tolerance_mm}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Write the scores of a scan."""
        name, label = str(item["case"]), item["label"]
        scores = score_case(
            name,
            item["pred"][0].cpu().long().as_tensor(),
            label[0].cpu().long().as_tensor(),
            np.linalg.norm(np.asarray(label.affine)[:3, :3], axis=0).tolist(),
            self.organs,
            self._annotated[name],
            self.surface_tolerance_mm,
        )
        with replacing(result_path(self.output_dir, name, self.kinds[0])) as temporary:
            temporary.write_text(json.dumps([asdict(score) for score in scores]))
        return item

    def _report(self, engine: Engine) -> None:
        evaluator = cast(Any, engine)
        cases = [case for case in self._annotated if evaluator.is_last and case not in evaluator.failures]
        texts = [result_path(self.output_dir, case, self.kinds[0]).read_text() for case in cases]
        scores = [CaseScore(**row) for text in texts for row in json.loads(text)]
        if scores:
            summary = write_report(scores, self.output_dir, self.title)
            engine.state.metrics.update(dice_metrics(summary))
            print(format_table({self.title: summary}))
            for word, (case, dice) in patients_to_look_at(scores_frame(scores)).items():
                print(f"{word} patient: {case}, mean Dice {dice:.3f}")
