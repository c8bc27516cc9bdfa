"""Scoring during an evaluator's run: each case when its labels are there, the report at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from ignite.engine import Engine, Events

from scripts.evaluation.case_scores import CaseScore, score_case
from scripts.evaluation.summary import MACRO_ROW, format_table, patients_to_look_at, scores_frame, write_report


def dice_metrics(summary: pd.DataFrame) -> dict[str, float]:
    """Mean Dice as metrics of an engine, which trackers read: "dice" over all organs, "dice/<organ>" of each."""
    names = {organ: "dice" if organ == MACRO_ROW else f"dice/{organ}" for organ in summary.index}
    return {names[organ]: float(mean) for organ, mean in summary["dice_mean"].dropna().items()}


class CaseScoreHandler:
    """Handler of an evaluator whose output has "pred" and "label" on the scan's own grid.

    The report is written when the epoch ends, and its mean Dice becomes metrics of the engine.

    Args:
        cases: case dictionaries; say which organs were contoured.
        organs: organ names in the order of their class indices.
        output_dir: folder of scores.csv, summary.csv, summary.json and dice.png.
        title: name of the method.
        surface_tolerance_mm: of the surface Dice.
    """

    tables = ("scores.csv", "summary.csv", "summary.json", "dice.png")

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        organs: Sequence[str],
        output_dir: str,
        title: str,
        surface_tolerance_mm: float = 3.0,
    ) -> None:
        self.annotated = {str(case["case"]): case.get("annotated", list(organs)) for case in cases}
        self.organs, self.output_dir, self.title = list(organs), output_dir, title
        self.surface_tolerance_mm = surface_tolerance_mm
        self.settings = {"title": title, "organs": self.organs, "surface_tolerance_mm": surface_tolerance_mm}
        self.scores: list[CaseScore] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _score(self, engine: Engine) -> None:
        batch, outputs = cast(Any, engine.state.batch), cast(Any, engine.state.output)
        for item, output in zip(batch or [], outputs or [], strict=False):
            name = str(item["case"])
            label = output["label"]
            spacing = np.linalg.norm(np.asarray(label.affine)[:3, :3], axis=0).tolist()
            prediction, reference = output["pred"][0].cpu().long(), label[0].cpu().long()
            self.scores += score_case(
                name,
                prediction.as_tensor(),
                reference.as_tensor(),
                spacing,
                self.organs,
                self.annotated[name],
                self.surface_tolerance_mm,
            )

    def _report(self, engine: Engine) -> None:
        if self.scores:
            summary = write_report(self.scores, self.output_dir, self.title)
            engine.state.metrics.update(dice_metrics(summary))
            print(format_table({self.title: summary}))
            for word, (case, dice) in patients_to_look_at(scores_frame(self.scores)).items():
                print(f"{word} patient: {case}, mean Dice {dice:.3f}")
