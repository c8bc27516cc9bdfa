"""The slice baseline with coarse channels: maps and image in step, in training as in the predictor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_scan import WINDOW, KnownCoarse, coarse_maps_of, known_maps, stored, two_organs
from torch import Tensor, nn

from development.baselines.coarse_channels import CoarseAndSlice, CoarseChannelBatches, CoarseChannelPredictor
from development.baselines.self_training import SelfTrainingBatches
from scripts.inference.predictor import Predictor
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.networks.segmenter import attention_logits
from scripts.queries.attention import AttentionMap, AttentionPerturbation
from scripts.queries.index import Query
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import RandomGeometry
from scripts.runtime.resume import save_atomically

STILL = RandomGeometry(zoom=(1.0, 1.0), rotation=0.0, shift=0.0)


def batches_of(folder: Path, **settings: Any) -> CoarseChannelBatches:
    case, store = stored(folder, two_organs())
    maps = known_maps(folder, store, {"x": coarse_maps_of(two_organs(), 2, (44, 28))})
    settings = {"patch_size": 32, "batch_size": 12, "geometry": STILL, "seed": 1, **settings}
    return CoarseChannelBatches(maps, AttentionMap(), data=[case], **settings)


def test_the_channels_behind_the_slices_are_the_maps_of_all_organs_in_step_with_the_label(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, geometry=RandomGeometry((0.9, 1.1), 10.0, 4.0), adjacent_slices=1)
    batch = batches.batch(0, batches.generator(0))
    assert batch["image"].shape == (12, 3 + 2, 32, 32)
    for organ in (1, 2):
        truth = (batch["label"][:, 0] == organ).float()
        found = batch["image"][:, 2 + organ]
        # The maps are the label itself, interpolated: they differ at its edge only.
        assert float(truth.sum()) > 0 and float((found - truth).abs().mean()) < 0.05


def test_faults_are_drawn_for_each_organ_by_itself(tmp_path: Path) -> None:
    faults = AttentionPerturbation(shift=0.0, grow=0, drop_part=0.0, drop_all=0.5)
    plain, faulty = batches_of(tmp_path / "plain"), batches_of(tmp_path / "faulty", perturbation=faults)
    before = plain.batch(0, plain.generator(0))["image"][:, 1:].amax(dim=(2, 3)) > 0.5
    after = faulty.batch(0, faulty.generator(0))["image"][:, 1:].amax(dim=(2, 3)) > 0.5
    both = before.all(dim=1)
    assert bool(both.any()) and not bool((after & ~before).any())
    assert bool((before & ~after).any()) and bool((before & after).any())


class FollowsAttention(nn.Module):
    """A stand-in segmenter that predicts what the maps say."""

    def forward(self, patches: Tensor) -> Tensor:
        return attention_logits(patches, 3)


def test_the_predictor_sees_the_coarse_maps_where_the_organs_are(tmp_path: Path) -> None:
    maps = coarse_maps_of(two_organs(), 2, (44, 28)).permute(1, 2, 3, 0)
    predictor = CoarseChannelPredictor(
        organs=["spleen", "liver"],
        window=WINDOW,
        coarse=KnownCoarse(maps),
        attention=AttentionMap(),
        planner=QueryPlanner(32),
        segmenter=FollowsAttention(),
        batch_size=4,
    )
    scores = predictor(torch.zeros(1, 1, 44, 28, 6))
    assert scores.shape == (1, 3, 44, 28, 6)
    assert torch.equal(scores[0].argmax(dim=0), torch.from_numpy(two_organs()).long())


def test_the_logits_of_the_attention_predict_the_maps_and_the_background_beside_them() -> None:
    maps = torch.tensor([0.7, 0.2]).reshape(1, 2, 1, 1)
    predicted = attention_logits(torch.cat([torch.ones(1, 1, 1, 1), maps], dim=1), 3).softmax(dim=1)
    torch.testing.assert_close(predicted.flatten(), torch.tensor([0.1, 0.7, 0.2]))


def batches(label: torch.Tensor | None, maps: torch.Tensor) -> Any:
    made: Any = object.__new__(SelfTrainingBatches)
    made._stored = [SimpleNamespace(image=torch.zeros(1, 4, 4), label=label)]
    made.data, made.maps = [{}], SimpleNamespace(of=lambda case: maps)
    return made


def test_the_label_of_an_unlabelled_scan_is_the_organs_thresholded_map_on_the_pixels_of_the_slice() -> None:
    maps = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    maps[0, 1] = torch.tensor([[255, 0], [255, 0]], dtype=torch.uint8)
    found = batches(None, maps)._label(Query(0, organ=2, slice=0, x=0, y=0, number=0))
    # Between the two coarse columns the probability is 1, .75, .25, 0.
    assert found.tolist() == [[[2, 2, 0, 0]] * 4] and found.dtype == torch.uint8


def test_a_labelled_scan_keeps_its_label_whatever_the_coarse_stage_says() -> None:
    label = torch.ones(1, 4, 4, dtype=torch.uint8)
    maps = torch.full((1, 2, 2, 2), 255, dtype=torch.uint8)
    assert torch.equal(batches(label, maps)._label(Query(0, 2, 0, 0, 0, 0)), label)


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
