"""The mean of a coarse stage and another predictor: by hand, and with the wrong checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from development.baselines.coarse_and_slice import CoarseAndSlice
from scripts.inference.predictor import Predictor
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.runtime.resume import save_atomically


class Certain(Predictor):
    """A predictor that is sure of the first organ everywhere."""

    def __init__(self) -> None:
        super().__init__(["spleen", "liver"], (-175.0, 275.0))
        self.unused = nn.Parameter(torch.zeros(1))

    def scores(self, image: Tensor) -> Tensor:
        scores = torch.zeros(3, *image.shape[1:])
        scores[1] = 1.0
        return scores


def coarse_stage(bias: list[float]) -> CoarseSegmenter:
    network = nn.Conv3d(1, 3, 1)
    nn.init.zeros_(network.weight)
    network.bias = nn.Parameter(torch.tensor(bias))
    return CoarseSegmenter(network, [1.0] * 3, [2.0] * 3, multiple=1)


def test_class_scores_are_averaged_and_the_weights_come_from_the_checkpoint(tmp_path: Path) -> None:
    trained = coarse_stage([0.0, 0.0, 1.0e3])  # sure of the second organ
    save_atomically({"epoch": 1, "network": trained.network.state_dict()}, tmp_path / "coarse.pt")
    both = CoarseAndSlice(Certain(), coarse_stage([0.0, 0.0, 0.0]), tmp_path / "coarse.pt")
    scores = both(torch.zeros(1, 1, 4, 4, 6))
    assert scores.shape == (1, 3, 4, 4, 6)
    assert scores[0, :, 0, 0, 0].tolist() == pytest.approx([0.0, 0.5, 0.5])


@pytest.mark.parametrize("content", [{"epoch": 1}, {"network": {"weight": torch.zeros(1)}}])
def test_what_is_no_checkpoint_of_this_coarse_stage_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    save_atomically(content, tmp_path / "coarse.pt")
    with pytest.raises(ValueError, match="coarse.pt is (no checkpoint|of another coarse network)"):
        CoarseAndSlice(Certain(), coarse_stage([0.0] * 3), tmp_path / "coarse.pt")
