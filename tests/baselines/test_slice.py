"""The slice baseline: batches without attention, and a predictor that blends windows of every slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scan import SPACING, WINDOW, stored, two_organs
from torch import Tensor, nn

from development.baselines import monai_networks
from development.baselines.slice_batches import SliceBatches
from development.baselines.slice_predictor import SlicePredictor
from development.baselines.volumes import VolumeBatches, VolumePredictor, patch_side
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import soft_tissue_window
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import RandomGeometry

STILL = RandomGeometry(zoom=(1.0, 1.0), rotation=0.0, shift=0.0)


def make_batches(cases: Sequence[dict[str, Any]], store: SliceStore, **settings: Any) -> SliceBatches:
    return SliceBatches(cases, store, (-175.0, 275.0), 32, 28, **{"geometry": STILL, "seed": 3, **settings})


def predictor_of(segmenter: Any) -> SlicePredictor:
    return SlicePredictor(["a"], (-175.0, 275.0), QueryPlanner(32), segmenter, batch_size=2)


def test_a_batch_has_windowed_slices_and_class_indices(
    phantom_cases: list[dict[str, Any]], phantom_store: SliceStore
) -> None:
    batches = make_batches(phantom_cases, phantom_store, adjacent_slices=1)
    batch = batches.batch(0, batches.generator(0))
    assert batch["image"].shape == (28, 3, 32, 32)
    assert 0 <= float(batch["image"].min()) and float(batch["image"].max()) <= 1
    assert batch["label"].shape == (28, 1, 32, 32)
    assert set(batch["label"].unique().tolist()) <= set(range(14))


def test_organs_take_turns_so_that_small_ones_are_seen(
    phantom_cases: list[dict[str, Any]], phantom_store: SliceStore
) -> None:
    batches = make_batches(phantom_cases, phantom_store)
    seen = [set(batches.batch(n, batches.generator(n))["label"].unique().tolist()) for n in range(3)]
    contoured = {organ for case in phantom_cases for organ in phantom_store.open(case).annotated}
    present = {int(v) for case in phantom_cases for v in phantom_store.open(case).label.unique()} - {0}  # type: ignore[union-attr]
    assert set().union(*seen) - {0} == contoured & present


def test_what_was_contoured_goes_with_every_window(
    phantom_cases: list[dict[str, Any]], phantom_store: SliceStore
) -> None:
    batches = make_batches(phantom_cases, phantom_store)
    batch = batches.batch(0, batches.generator(0))
    known = {tuple(sorted(phantom_store.open(case).annotated)) for case in phantom_cases}
    for row in batch["annotated"]:
        assert tuple(torch.nonzero(row)[:, 0].tolist()) in known


def test_the_same_number_gives_the_same_batch(phantom_cases: list[dict[str, Any]], phantom_store: SliceStore) -> None:
    first, second = (make_batches(phantom_cases, phantom_store, geometry=RandomGeometry()) for _ in range(2))
    one, two = first.batch(5, first.generator(5)), second.batch(5, second.generator(5))
    assert all(torch.equal(one[key], two[key]) for key in one)


class BrightIsOrganOne(nn.Module):
    """A stand-in segmenter: class 1 where the windowed image exceeds a half."""

    def forward(self, patches: Tensor) -> Tensor:
        bright = (patches[:, :1] - 0.5) * 100
        return torch.cat([-bright, bright], dim=1)


@pytest.mark.parametrize("shape", [(20, 50, 3), (33, 32, 2), (70, 90, 2)])
def test_windows_cover_every_pixel_once_blended(shape: tuple[int, int, int]) -> None:
    predictor = predictor_of(BrightIsOrganOne())
    hu = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0)) * 200
    scores = predictor(hu)
    expected = torch.sigmoid((soft_tissue_window(hu, -175.0, 275.0)[:, 0] - 0.5) * 200)
    assert torch.allclose(scores[:, 1], expected, atol=1e-5)
    assert torch.allclose(scores.sum(dim=1), torch.ones(1, *shape), atol=1e-5)


def test_a_volume_of_wrong_form_is_refused() -> None:
    predictor = predictor_of(BrightIsOrganOne())
    with pytest.raises(ValueError, match=r"expects \[batch, 1, x, y, z\]"):
        predictor(torch.zeros(1, 40, 40, 3))


class BrightVoxelsAreOrganOne(nn.Module):
    """A stand-in network: the brighter, the more likely class 1."""

    def forward(self, volume: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(volume), 4 * volume - 2], dim=1)


def segmenter(coarse_spacing: list[float] = SPACING) -> CoarseSegmenter:
    return CoarseSegmenter(BrightVoxelsAreOrganOne(), SPACING, coarse_spacing, tile=[16, 16, 8], multiple=8)


def batches_of(folder: Path, batch_size: int) -> VolumeBatches:
    case, store = stored(folder, two_organs())
    geometry = RandomGeometry((0.9, 1.1), 10.0, 0.0)
    settings: dict[str, Any] = {"segmenter": segmenter(), "window": WINDOW, "geometry": geometry}
    return VolumeBatches(32, batch_size, depth=8, data=[case], store=store, **settings)


def test_a_batch_has_as_many_images_as_its_patches_have_slices(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, batch_size=24)
    batch = batches.batch(0, batches.generator(0))
    assert batch["image"].shape == batch["label"].shape == (3, 1, 64, 64, 8)
    assert set(batch["label"].unique().tolist()) == {0, 1, 2}


def test_a_patch_is_as_large_as_a_query_window_and_at_least_64_pixels() -> None:
    assert [patch_side(window) for window in (32, 64, 128)] == [64, 64, 128]


@pytest.mark.parametrize("images", [4, 20])
def test_a_budget_that_is_no_whole_number_of_patches_is_refused(tmp_path: Path, images: int) -> None:
    with pytest.raises(ValueError, match=f"{images} images are no whole number of patches of 8 slices"):
        batches_of(tmp_path, batch_size=images)


def test_the_scores_are_the_networks_own_probabilities() -> None:
    hu = torch.randn(1, 1, 20, 33, 9, generator=torch.Generator().manual_seed(0)) * 200
    scores = VolumePredictor(["a"], WINDOW, segmenter())(hu)
    expected = torch.sigmoid(4 * soft_tissue_window(hu[:, 0], *WINDOW) - 2)
    torch.testing.assert_close(scores[:, 1], expected, atol=2e-3, rtol=0.0)  # the coarse stage's are float16
    torch.testing.assert_close(scores.sum(dim=1), torch.ones_like(expected))


def test_a_network_on_another_grid_than_the_working_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="set coarse_spacing to the spacing"):
        VolumePredictor(["a"], WINDOW, segmenter([4.0, 4.0, 6.0]))


def test_without_einops_the_requirements_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monai_networks, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-baselines\.txt"):
        monai_networks.swin_unetr(out_channels=2)
