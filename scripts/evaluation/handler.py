"""Scoring during an evaluator's run: each scan with its results, the report at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from ignite.engine import Engine, Events

from scripts.evaluation.case_scores import CaseScore, score_case
from scripts.evaluation.summary import MACRO_ROW, format_table, patients_to_look_at, scores_frame, write_report
from scripts.files.atomic_write import write_text
from scripts.files.result_files import result_path
from scripts.outputs.scan_outputs import RESULT


class ScoreHandler:
    """Base of the handlers of a `ScanEvaluator` whose items have "pred" and "label" on the scan's own grid.

    A subclass makes plain values of an item (`score`), which become a JSON file of the case, and of all these the
    report when the epoch ends (`report`). `kinds` and `tables` name its files to the evaluator's manifest, `settings`
    what the tables depend on. Organs stand in the order of class indices, no background; the title names the method.
    """

    kinds: tuple[str, ...]
    tables: tuple[str, ...]

    def __init__(self, cases: Sequence[Mapping[str, Any]], organs: Sequence[str], output_dir: str, title: str) -> None:
        self.cases = {str(case["case"]): case for case in cases}
        self.organs, self.output_dir, self.title = list(organs), Path(output_dir), title
        self.settings: dict[str, Any] = {"title": title, "organs": self.organs}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Write the scores of a scan."""
        write_text(result_path(self.output_dir, str(item["case"]), self.kinds[0]), json.dumps(self.score(item)))
        return item

    def score(self, item: Mapping[str, Any]) -> Any:
        """Scores of one scan as plain values."""
        raise NotImplementedError

    def report(self, engine: Engine, scores: Sequence[Any]) -> None:
        """Write the tables of the scores of all scans."""
        raise NotImplementedError

    def _report(self, engine: Engine) -> None:
        evaluator = cast(Any, engine)
        if evaluator.is_last:
            cases = [case for case in self.cases if case not in evaluator.failures]
            files = [result_path(self.output_dir, case, self.kinds[0]) for case in cases]
            self.report(engine, [json.loads(file.read_text()) for file in files])


class CaseScoreHandler(ScoreHandler):
    """Dice, HD95 and surface Dice (tolerance in mm) of every scan; the mean Dice becomes metrics of the engine."""

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
        super().__init__(cases, organs, output_dir, title)
        self.settings["surface_tolerance_mm"] = surface_tolerance_mm

    def score(self, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Scores of the organs that were contoured in the scan."""
        name, label = str(item["case"]), item["label"]
        prediction, reference = (labels[0].cpu().long().as_tensor() for labels in (item["pred"], label))
        spacing = np.linalg.norm(np.asarray(label.affine)[:3, :3], axis=0).tolist()
        annotated = self.cases[name].get("annotated", self.organs)
        tolerance = self.settings["surface_tolerance_mm"]
        scores = score_case(name, prediction, reference, spacing, self.organs, annotated, tolerance)
        found = item.get(RESULT, {}).get("soft_dice", {})
        return [{**asdict(score), "soft_dice": found.get(score.organ)} for score in scores]

    def report(self, engine: Engine, scores: Sequence[Any]) -> None:
        """Write the report, print its table, and name the patients to look at."""
        names = CaseScore.__dataclass_fields__  # a row has the soft Dice as well
        if rows := [CaseScore(**{name: row[name] for name in names}) for of_case in scores for row in of_case]:
            summary = write_report(rows, self.output_dir, self.title)
            engine.state.metrics.update(dice_metrics(summary))
            print(format_table({self.title: summary}))
            for word, (case, dice) in patients_to_look_at(scores_frame(rows)).items():
                print(f"{word} patient: {case}, mean Dice {dice:.3f}")


def dice_metrics(summary: pd.DataFrame) -> dict[str, float]:
    """Mean Dice as metrics of an engine, which trackers read: "dice" over all organs, "dice/<organ>" of each."""
    names = {organ: "dice" if organ == MACRO_ROW else f"dice/{organ}" for organ in summary.index}
    return {names[organ]: float(mean) for organ, mean in summary["dice_mean"].dropna().items()}
