"""The slice baseline with coarse channels: maps and image in step, in training as in the predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_scan import WINDOW, KnownCoarse, coarse_maps_of, known_maps, stored, two_organs
from torch import Tensor, nn

from development.baselines.coarse_channels import CoarseChannelBatches, CoarseChannelPredictor
from scripts.networks.segmenter import attention_logits
from scripts.queries.attention import AttentionMap, AttentionPerturbation
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import RandomGeometry

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
