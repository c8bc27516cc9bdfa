"""Training patches of the coarse stage: image and label in step, on the coarse grid, repeatable."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scan import SPACING, WINDOW, stored, two_organs
from torch import nn
from torch.nn.functional import grid_sample

from scripts.coarse.patches import CoarsePatches
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import RandomIntensity
from scripts.queries.views import RandomGeometry
from scripts.runtime.stage import batch_targets
from scripts.runtime.streams import Batch, StreamLoader

STILL = RandomGeometry([1, 1], rotation=0.0, shift=0.0)
WHITE = np.where(two_organs() == 2, 275, -175).astype(np.int16)
"""The liver is white, everything else black: image and label of it are the same picture."""
BRIGHT = np.where(two_organs() == 2, 1000, 275).astype(np.int16)
"""White everywhere in the window."""


def patches_of(folder: Path, coarse_spacing: list[float] = SPACING, **changes: Any) -> CoarsePatches:
    scan = {key: changes.pop(key) for key in ("image", "annotated") if key in changes}
    case, store = stored(folder, two_organs(), **scan)
    settings: dict[str, Any] = {"patch_size": [12, 12, 4], "batch_size": 6, "geometry": STILL, **changes}
    unlabelled = {key: value for key, value in case.items() if key != "label"}
    return CoarsePatches(
        [unlabelled, case],
        store,
        CoarseSegmenter(nn.Identity(), SPACING, coarse_spacing, multiple=1),
        WINDOW,
        **settings,
    )


def first_batch(patches: CoarsePatches) -> Batch:
    return next(iter(patches))


def test_a_still_patch_of_the_whole_volume_is_the_volume(tmp_path: Path) -> None:
    batch = first_batch(patches_of(tmp_path, patch_size=[44, 28, 6], batch_size=1, image=WHITE))
    assert torch.equal(batch["label"][0, 0], torch.from_numpy(two_organs()).float())
    torch.testing.assert_close(batch["image"][0, 0], torch.from_numpy(two_organs() == 2).float(), atol=1e-4, rtol=0)


def test_a_volume_that_is_smaller_than_the_patch_lies_in_the_middle_of_air(tmp_path: Path) -> None:
    batch = first_batch(patches_of(tmp_path, patch_size=[48, 32, 8], batch_size=1, image=BRIGHT))
    inside = torch.zeros(48, 32, 8)
    inside[2:46, 2:30, 1:7] = 1
    torch.testing.assert_close(batch["image"][0, 0], inside, atol=1e-4, rtol=0)
    assert torch.equal(batch["label"][0, 0, 2:46, 2:30, 1:7], torch.from_numpy(two_organs()).float())


def test_image_and_label_move_together(tmp_path: Path) -> None:
    geometry = RandomGeometry([0.8, 1.25], rotation=30.0, mirror=0.5)
    batch = first_batch(patches_of(tmp_path, image=WHITE, geometry=geometry, batch_size=32))
    assert float(batch["image"].std(dim=0).max()) > 0.3
    # The image is interpolated and the label takes the nearest voxel: they agree but for the organ's surface.
    agree = (batch["image"] > 0.5) == (batch["label"] == 2)
    assert float(agree.float().mean()) > 0.93
    assert torch.equal(batch["label"].unique(), torch.tensor([0.0, 1.0, 2.0]))


def test_patches_stay_inside_of_a_volume_that_is_larger(tmp_path: Path) -> None:
    batch = first_batch(patches_of(tmp_path, image=BRIGHT, batch_size=64))
    assert float(batch["image"].min()) > 0.999


def test_patches_come_from_everywhere(tmp_path: Path) -> None:
    # The image is its own position along x, from black to white.
    ramp = np.broadcast_to(np.linspace(-175, 275, 44).astype(np.int16)[:, None, None], (44, 28, 6)).copy()
    first = first_batch(patches_of(tmp_path, image=ramp, batch_size=200, organ_share=0.0))["image"][:, 0, 0, 0, 0] * 43
    # 12 of 44 voxels: the first one lies between 0 and 32.
    assert float(first.min()) < 2 and float(first.max()) > 30
    assert float(first.mean()) == pytest.approx(16, abs=2)


def test_patches_lie_around_the_organs_in_turns(tmp_path: Path) -> None:
    # No patch of 6 x 6 x 2 voxels could show both organs by chance as often as this.
    label = first_batch(patches_of(tmp_path, patch_size=[6, 6, 2], batch_size=40, organ_share=1.0))["label"]
    shown = torch.stack([(label == organ).flatten(1).any(1) for organ in (1, 2)], dim=1)
    assert bool(shown.any(dim=1).all()) and int(shown[:, 0].sum()) >= 20 and int(shown[:, 1].sum()) >= 20


def test_an_organ_that_no_case_was_contoured_for_is_not_looked_for(tmp_path: Path) -> None:
    patches = patches_of(tmp_path, annotated=["liver"], patch_size=[6, 6, 2], batch_size=20, organ_share=1.0)
    assert bool((first_batch(patches)["label"] == 2).flatten(1).any(1).all())


def test_a_patch_that_the_network_cannot_halve_often_enough_is_refused_with_one_that_fits(tmp_path: Path) -> None:
    case, store = stored(tmp_path, two_organs())
    segmenter = CoarseSegmenter(nn.Identity(), SPACING, SPACING, multiple=8)
    with pytest.raises(ValueError, match=r"patch_size \[32, 32, 20\] .*example \[32, 32, 24\]"):
        CoarsePatches([case], store, segmenter, WINDOW, [32, 32, 20], 1, STILL)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_of_0_to_1_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match="organ_share"):
        patches_of(tmp_path, organ_share=share)


def test_a_coarser_grid_shows_the_same_organs(tmp_path: Path) -> None:
    batch = first_batch(patches_of(tmp_path, [4.0, 4.0, 3.0], patch_size=[22, 14, 6], batch_size=1, image=WHITE))
    expected = torch.from_numpy(two_organs() == 2).float()
    mean = expected.reshape(22, 2, 14, 2, 6).mean(dim=(1, 3))
    torch.testing.assert_close(batch["image"][0, 0], mean, atol=1e-3, rtol=0)
    sure = (mean == 0) | (mean == 1)
    assert torch.equal((batch["label"][0, 0] == 2)[sure], (mean == 1)[sure])


def test_every_patch_says_which_organs_were_contoured(tmp_path: Path) -> None:
    batch = first_batch(patches_of(tmp_path, annotated=["liver"]))
    assert batch["annotated"].tolist() == [[False, False, True]] * 6


def test_batch_number_n_is_the_same_however_it_is_reached(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"geometry": RandomGeometry(), "intensity": RandomIntensity(), "seed": 5}
    walked = list(islice(patches_of(tmp_path, **settings), 4))
    jumped = patches_of(tmp_path, **settings)
    jumped.start_at(3)
    found = next(iter(StreamLoader(jumped)))
    assert all(torch.equal(walked[3][key], found[key]) for key in found)
    assert not torch.equal(walked[2]["image"], walked[3]["image"])


def test_the_loss_is_told_label_and_contoured_organs(tmp_path: Path) -> None:
    batch = first_batch(patches_of(tmp_path))
    image, targets = batch_targets(batch, torch.device("cpu"), False)
    assert torch.equal(image, batch["image"]) and set(targets) == {"label", "annotated"}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_magnified_patch_is_magnified_along_all_three_axes(tmp_path: Path, axis: int) -> None:
    # A ramp over the axis, seen at zoom 2, rises half as much from voxel to voxel.
    length = (44, 28, 6)[axis]
    ramp = np.linspace(-175, 275, length).reshape([-1 if n == axis else 1 for n in range(3)])
    image = np.broadcast_to(ramp.round().astype(np.int16), (44, 28, 6)).copy()
    batch = first_batch(patches_of(tmp_path, image=image, geometry=RandomGeometry([2, 2], 0.0, 0.0), batch_size=1))
    steps = batch["image"][0, 0].diff(dim=axis)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5 / (length - 1)), atol=2e-3, rtol=0)


def test_a_patch_is_what_interpolation_in_all_three_axes_gives(tmp_path: Path) -> None:
    patches = patches_of(tmp_path, patch_size=[20, 30, 8])  # wider and higher than the scan
    generator = torch.Generator().manual_seed(0)
    image, label = torch.rand(6, 2, 44, 28, generator=generator), torch.randint(3, (6, 44, 28), generator=generator)
    matrix, centre = torch.tensor([[1.1, 0.3], [-0.3, 1.1]]), torch.tensor([20.3, 11.9, 2.2])
    patch, target = patches._cut(image, label, matrix, centre)
    zoom = float(matrix.det().sqrt())
    steps = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in (20, 30, 8)), indexing="ij")
    points = torch.stack([*torch.einsum("ab,bxyz->axyz", matrix, torch.stack(steps[:2])), steps[2] * zoom], -1) + centre
    grid = (points * 2 / torch.tensor([43, 27, 5]) - 1).flip(-1)[None]
    volumes = image.permute(1, 2, 3, 0)[None], label.permute(1, 2, 0)[None, None].float()
    torch.testing.assert_close(patch, grid_sample(volumes[0], grid, align_corners=True)[0], atol=1e-4, rtol=0)
    assert torch.equal(target, grid_sample(volumes[1], grid, mode="nearest", align_corners=True)[0])
