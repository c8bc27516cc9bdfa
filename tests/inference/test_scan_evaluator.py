from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.transforms import Compose, Lambda
from tiny_predictor import MakePredictor
from torch import nn

from development.baselines.slice_predictor import SlicePredictor
from scripts.evaluation.handler import CaseScoreHandler
from scripts.inference.scan_evaluator import ScanDataset, ScanEvaluator, settings_of
from scripts.inference.weights import Ensemble
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter
from scripts.outputs.scan_outputs import SaveImageLabelsd
from scripts.preprocessing.working_grid import ScoresToScanLabelsd, ToWorkingGridd
from scripts.queries.planner import QueryPlanner
from scripts.runtime.plain_errors import describe

Item = dict[str, Any]


def read(case: Item) -> Item:
    """Preprocessing: the image is a volume of the case's number."""
    if case["case"] == "unreadable":
        raise OSError("the file is cut off")
    return {"image": torch.full((1, 2, 2, 2), float(case["number"])), "case": case["case"]}


class Doubling(nn.Module):
    """A network that runs out of memory on one scan."""

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        if volume.max() == 13:
            raise RuntimeError("out of memory")
        return 2 * volume


def evaluator(names: Sequence[str], save: Callable[[Item], Any] = lambda item: item) -> ScanEvaluator:
    cases = [{"case": name, "image": name, "number": 13 if name == "huge" else n} for n, name in enumerate(names)]
    return ScanEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(ScanDataset(cases, Compose([read])), batch_size=1),
        network=Doubling(),
        postprocessing=Lambda(save),
    )


def failures(running: ScanEvaluator) -> list[str]:
    """Run it; return the lines of its complaint."""
    with pytest.raises(SystemExit) as caught:
        running.run()
    return str(caught.value.code).splitlines()


def test_every_scan_is_predicted_and_saved_and_the_run_ends_quietly() -> None:
    saved: dict[str, float] = {}
    running = evaluator(["a", "b", "c"], lambda item: saved.update({item["case"]: float(item["pred"].max())}) or item)
    running.run()
    assert saved == {"a": 0.0, "b": 2.0, "c": 4.0}
    assert running.failures == {}


def test_scans_that_fail_in_reading_or_prediction_are_named_and_the_others_saved() -> None:
    saved: list[str] = []

    def save(item: Item) -> Item:
        saved.append(item["case"])
        return item

    running = evaluator(["unreadable", "a", "huge", "b"], save)
    assert failures(running) == [
        "error: 2 of 4 scans failed:",
        "  unreadable: OSError: the file is cut off",
        "  huge: RuntimeError: out of memory",
    ]
    assert saved == ["a", "b"]


def test_a_scan_that_cannot_be_saved_is_named_too() -> None:
    def save(item: Item) -> Item:
        if item["case"] == "a":
            raise OSError("no space left on device")
        return item

    assert failures(evaluator(["a", "b"], save)) == [
        "error: 1 of 2 scans failed:",
        "  a: OSError: no space left on device",
    ]


def test_a_failed_scan_leaves_no_output_for_the_handlers() -> None:
    # Otherwise the scores of the scan before would count twice.
    running, outputs = evaluator(["a", "huge", "b"]), []
    running.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(len(engine.state.output)))
    failures(running)
    assert outputs == [1, 0, 1]


def test_a_failure_is_logged_when_it_happens_not_only_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="scripts.inference.scan_evaluator"):
        failures(evaluator(["unreadable", "a"]))
    assert "unreadable failed: OSError: the file is cut off" in caplog.text


def test_failures_of_an_earlier_run_are_forgotten() -> None:
    running = evaluator(["huge"])
    assert failures(running) == failures(running)
    assert list(running.failures) == ["huge"]


def test_ctrl_c_stops_the_run_at_once() -> None:
    def save(item: Item) -> Item:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator(["a", "b"], save).run()


def test_the_reason_is_the_first_error_of_a_chain() -> None:
    try:
        try:
            raise ValueError("the scan has no slices")
        except ValueError as error:
            raise RuntimeError("applying transform <monai...>") from error
    except RuntimeError as error:
        assert describe(error) == "ValueError: the scan has no slices"


def test_a_setting_anywhere_in_a_predictor_counts_and_weights_do_not(make_predictor: MakePredictor) -> None:
    first = settings_of(make_predictor())
    other = make_predictor()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert settings_of(other.train()) == first
    other.planner.threshold = 0.4
    assert settings_of(other) != first
    assert settings_of(make_predictor(coarse_weight=0.25)) != first
    assert settings_of(make_predictor(coarse=torch.nn.Conv3d(1, 3, 3, padding=1))) != first
    assert json.loads(json.dumps(first)) == first, "plain values"
    half, quarter = (Ensemble(make_predictor(coarse_weight=weight), ["a.pt", "b.pt"]) for weight in (0.5, 0.25))
    moved = Ensemble(make_predictor(coarse_weight=0.5), ["b.pt", "c.pt"])
    assert settings_of(half) == settings_of(moved) != settings_of(quarter), "those of a member count, too"


def test_the_window_of_a_baseline_counts_and_the_other_cases_of_a_table_do_not(make_predictor: MakePredictor) -> None:
    def slices(overlap: float) -> SlicePredictor:
        encoder = ResNetEncoder("resnet18", in_channels=1)
        segmenter = QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, out_channels=3), attention_residual=False)
        return SlicePredictor(["liver", "spleen"], [-175, 275], QueryPlanner(32, overlap=overlap), segmenter)

    assert settings_of(slices(0.25)) == settings_of(slices(0.25)) != settings_of(slices(0.5))
    one, two = (
        CaseScoreHandler([{"case": case} for case in cases], ["liver"], "out", "Validation") for cases in ("a", "ab")
    )
    assert settings_of(one) == settings_of(two)


def test_a_setting_of_any_transform_counts_and_the_output_folder_does_not() -> None:
    def steps(spacing: float = 3.0, output_dir: str = "here", **labels: Any) -> str:
        restored = ScoresToScanLabelsd("pred", organs=["spleen", "liver"], **{"one_piece": ["liver"], **labels})
        saved = SaveImageLabelsd("pred", output_dir)
        # As text: some of MONAI's defaults are NaN, which no number equals.
        return json.dumps(settings_of(Compose([ToWorkingGridd("image", [spacing] * 3), restored, saved])))

    assert steps() == steps(output_dir="elsewhere")
    assert len({steps(), steps(2.0), steps(one_piece=[]), steps(threshold=0.4)}) == 4


def test_parts_that_name_one_another_come_to_an_end() -> None:
    class Part:
        def __init__(self) -> None:
            self.size, self.whole = 3, {"parts": [self]}

    assert settings_of(Part())["size"] == 3
