"""What results depend on is read from the objects that make them."""

from __future__ import annotations

import json
from typing import Any

import torch
from monai.transforms import Compose
from scripts.inference.result_settings import settings_of
from tiny_predictor import MakePredictor

from scripts.outputs.scan_outputs import SaveImageLabelsd
from scripts.preprocessing.working_grid import ScoresToScanLabelsd, ToWorkingGridd


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


def test_a_setting_of_any_transform_counts_and_the_output_folder_does_not() -> None:
    def steps(spacing: float = 3.0, output_dir: str = "here", **labels: Any) -> str:
        restored = ScoresToScanLabelsd("pred", ["spleen", "liver"], **{"one_piece": ["liver"], **labels})
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
