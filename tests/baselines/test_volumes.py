"""A 3D network of someone else: patches counted in images, and class scores that are its own softmax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scan import SPACING, WINDOW, stored, two_organs
from torch import Tensor, nn

from development.baselines import swin_unetr as swin_module
from development.baselines.volumes import VolumeBatches, VolumePredictor, patch_side
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import soft_tissue_window
from scripts.queries.views import RandomGeometry


class BrightIsOrganOne(nn.Module):
    """A stand-in network: the brighter, the more likely class 1."""

    def forward(self, volume: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(volume), 4 * volume - 2], dim=1)


def segmenter(coarse_spacing: list[float] = SPACING) -> CoarseSegmenter:
    return CoarseSegmenter(BrightIsOrganOne(), SPACING, coarse_spacing, tile=[16, 16, 8], multiple=8)


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
    monkeypatch.setattr(swin_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-baselines\.txt"):
        swin_module.swin_unetr(out_channels=2)
