"""Batches of query patches: the same as the predictor's, in step under augmentation, and repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_predictor import MakePredictor
from tiny_scan import KnownCoarse, coarse_maps_of, known_maps, stored, two_organs
from torch import Tensor, nn

from scripts.preprocessing.intensity import RandomIntensity, soft_tissue_window
from scripts.queries.attention import AttentionMap, AttentionPerturbation
from scripts.queries.batches import QueryBatches
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import RandomGeometry
from scripts.runtime.stage import batch_targets
from scripts.runtime.streams import Batch, StreamLoader

MAP_SIZE = (22, 9)
"""Of slices of 44 x 28 pixels: ratios 1/2 and about 1/3, so that confused axes would show."""


def batches_of(folder: Path, map_size: tuple[int, int] = MAP_SIZE, **changes: Any) -> QueryBatches:
    """Batches of the scan of two organs."""
    scan = {key: changes.pop(key) for key in ("image", "annotated", "phase") if key in changes}
    case, store = stored(folder, two_organs(), **scan)
    settings: dict[str, Any] = {
        "planner": QueryPlanner(patch_size=32, threshold=0.3, margin_slices=1, pad=4),
        "attention": AttentionMap(),
        "batch_size": 16,
        **changes,
    }
    maps = known_maps(folder, store, {"x": coarse_maps_of(two_organs(), 2, map_size)})
    return QueryBatches([case], maps, **settings)


def first_batch(batches: QueryBatches) -> Batch:
    return next(iter(batches))


class Listener(nn.Module):
    """A segmenter that keeps what it is asked and answers with nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.in_channels = channels  # type: ignore[assignment]
        self.heard: list[Tensor] = []

    def forward(self, queries: Tensor) -> Tensor:
        self.heard.append(queries)
        return torch.zeros_like(queries[:, :1])


@pytest.mark.parametrize("patch_size", [32, 48], ids=["patch-crosses-organs", "patch-larger-than-slice"])
@pytest.mark.parametrize("adjacent_slices", [0, 1])
@pytest.mark.parametrize("attention", [AttentionMap(), AttentionMap(True, 0.4, 2)], ids=["soft", "binary-grown"])
def test_a_training_patch_without_augmentation_is_the_predictors_patch(
    tmp_path: Path, make_predictor: MakePredictor, patch_size: int, adjacent_slices: int, attention: AttentionMap
) -> None:
    planner = QueryPlanner(patch_size=patch_size, threshold=0.3, margin_slices=1, pad=4)
    batches = batches_of(tmp_path, planner=planner, attention=attention, adjacent_slices=adjacent_slices, batch_size=40)
    batch, asked = first_batch(batches), batches.index.draw(40, batches.generator(0))
    assert len({(query.organ, query.slice, query.x, query.y) for query in asked}) >= 10

    maps = batches.maps.of(batches.data[0]).float() / 255
    listener = Listener(2 * adjacent_slices + 2)
    predictor = make_predictor(
        patch_size=patch_size,
        adjacent_slices=adjacent_slices,
        attention=attention,
        coarse=KnownCoarse(maps.permute(1, 2, 3, 0)),
        segmenter=listener,
    )
    image = soft_tissue_window(batches.store.open(batches.data[0]).image.float(), *predictor_window(predictor))
    for query in asked:
        row = torch.tensor([[query.slice, query.organ - 1, query.x, query.y]])
        organ_maps = maps[:, query.organ - 1 : query.organ]
        predictor._fuse_slab(predictor._with_room(image), organ_maps, row, 0, list(image.shape[1:]))
    torch.testing.assert_close(batch["image"], torch.cat(listener.heard), atol=2e-5, rtol=0)


def predictor_window(predictor: Any) -> tuple[float, float]:
    return predictor.lower, predictor.upper


def test_what_the_predictor_asks_of_a_volume_is_what_training_may_draw(
    tmp_path: Path, make_predictor: MakePredictor
) -> None:
    batches = batches_of(tmp_path)
    maps = batches.maps.of(batches.data[0]).float() / 255
    listener = Listener(2)
    predictor = make_predictor(coarse=KnownCoarse(maps.permute(1, 2, 3, 0)), segmenter=listener)
    volume = batches.store.open(batches.data[0]).image.permute(1, 2, 0)
    predictor(volume[None, None].float())
    planned = sum(len(plan) for group in batches.index.groups.values() for _, plan in group)
    assert sum(len(heard) for heard in listener.heard) == planned


def test_the_label_is_the_organ_that_is_asked_for_and_no_other(tmp_path: Path) -> None:
    batches = batches_of(tmp_path)
    batch = first_batch(batches)
    truth = batches.store.open(batches.data[0]).label
    assert truth is not None
    for query, label in zip(batches.index.draw(16, batches.generator(0)), batch["label"], strict=True):
        window = truth[query.slice, query.x : query.x + 32, query.y : query.y + 32] == query.organ
        # The slice is 28 pixels deep, the window 32.
        assert torch.equal(label[0, :, :28] == 1, window) and not bool(label[0, :, 28:].any())


def test_beyond_the_slice_there_is_air_no_attention_and_no_organ(tmp_path: Path) -> None:
    bright = np.where(two_organs() > 0, 270, 200).astype(np.int16)
    batches = batches_of(tmp_path, image=bright, geometry=RandomGeometry([1, 1], 0.0, shift=0.0))
    batch = first_batch(batches)
    beyond = torch.cat([batch["image"], batch["label"]], dim=1)[:, :, :, 28:]
    assert float(beyond.abs().max()) == 0
    assert float(batch["image"][:, 0, :, :28].min()) > 0.8


def test_image_attention_and_label_move_together(tmp_path: Path) -> None:
    # The liver is white in the image, 1 in its label and 1 in a map of full resolution: three times the same picture.
    # Its own patches must therefore show three equal channels whatever the geometry.
    white = np.where(two_organs() == 2, 275, -175).astype(np.int16)
    geometry = RandomGeometry([0.7, 1.4], rotation=60.0, shift=6.0, mirror=0.5)
    batches = batches_of(tmp_path, (44, 28), image=white, annotated=["liver"], present_only=True, geometry=geometry)
    batch = first_batch(batches)
    image, attention, label = batch["image"][:, 0], batch["image"][:, 1], batch["label"][:, 0]
    assert float(image.std(dim=0).max()) > 0.3, "the views differ"
    torch.testing.assert_close(image, attention, atol=1e-4, rtol=0)
    sure = (image - 0.5).abs() > 1e-3
    assert torch.equal((image > 0.5)[sure], (label == 1)[sure])
    assert float(label.flatten(1).sum(1).min()) > 50


def test_a_perturbed_attention_leaves_its_place_but_image_and_label_stay(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"map_size": (44, 28), "present_only": True}
    plain = first_batch(batches_of(tmp_path / "a", **settings))
    moved = first_batch(batches_of(tmp_path / "b", **settings, perturbation=AttentionPerturbation(4.0, 0, 0.0, 0.0)))
    assert torch.equal(plain["image"][:, 0], moved["image"][:, 0]) and torch.equal(plain["label"], moved["label"])
    assert float((plain["image"][:, 1] - moved["image"][:, 1]).abs().amax(dim=(1, 2)).min()) > 0.1


def test_the_views_of_a_query_lie_a_batch_apart_and_differ(tmp_path: Path) -> None:
    batch = first_batch(batches_of(tmp_path, views=2, geometry=RandomGeometry(), present_only=True))
    assert batch["image"].shape == (32, 2, 32, 32) and batch["label"].shape == (32, 1, 32, 32)
    for key in ("organ", "phase", "query"):
        assert torch.equal(batch[key][:16], batch[key][16:])
    assert batch["query"][:16].tolist() == list(range(16))
    difference = (batch["image"][:16] - batch["image"][16:]).abs().amax(dim=(1, 2, 3))
    assert float(difference.min()) > 0.1


def test_organ_and_phase_of_the_views_are_class_indices(tmp_path: Path) -> None:
    batch = first_batch(batches_of(tmp_path, phase="non_contrast"))
    assert sorted(batch["organ"].unique().tolist()) == [1, 2]
    assert batch["phase"].unique().tolist() == [1]


def test_the_intensity_of_a_view_is_the_mean_of_the_window_under_its_attention(tmp_path: Path) -> None:
    # 50 HU lie in the middle of the window; outside of the organs it is black.
    half = np.where(two_organs() > 0, 50, -175).astype(np.int16)
    batch = first_batch(batches_of(tmp_path, (44, 28), image=half, present_only=True))
    assert torch.allclose(batch["intensity"], torch.tensor(0.5), atol=1e-3)
    dropped = first_batch(batches_of(tmp_path / "b", perturbation=AttentionPerturbation(drop_all=1.0)))
    assert dropped["intensity"].tolist() == [0.0] * 16


def test_a_varied_image_leaves_attention_and_label_alone(tmp_path: Path) -> None:
    plain = first_batch(batches_of(tmp_path / "a"))
    varied = first_batch(batches_of(tmp_path / "b", intensity=RandomIntensity()))
    assert not torch.equal(plain["image"][:, 0], varied["image"][:, 0])
    assert torch.equal(plain["image"][:, 1], varied["image"][:, 1]) and torch.equal(plain["label"], varied["label"])


def augmented(folder: Path, seed: int = 0) -> QueryBatches:
    return batches_of(
        folder,
        views=2,
        geometry=RandomGeometry(mirror=0.5),
        intensity=RandomIntensity(),
        perturbation=AttentionPerturbation(drop_part=0.5),
        seed=seed,
    )


def same(first: Batch, second: Batch) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(tmp_path: Path) -> None:
    once, again = (list(islice(augmented(tmp_path / name), 3)) for name in ("a", "b"))
    assert all(same(first, second) for first, second in zip(once, again, strict=True))
    assert not same(once[0], once[1])
    assert not same(once[0], first_batch(augmented(tmp_path / "c", seed=1)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batch_number_n_is_the_same_however_it_is_reached(tmp_path: Path, workers: int) -> None:
    walked = list(islice(augmented(tmp_path), 5))
    jumped = augmented(tmp_path)
    jumped.start_at(2)
    loader: Iterator[Batch] = iter(StreamLoader(jumped, num_workers=workers))
    for expected, found in zip(walked[2:], loader, strict=False):
        assert same(expected, found)


def test_the_loss_is_told_everything_but_the_image(tmp_path: Path) -> None:
    batch = first_batch(batches_of(tmp_path, views=2))
    views, targets = batch_targets(batch, torch.device("cpu"), False)
    assert torch.equal(views, batch["image"])
    assert set(targets) == {"label", "organ", "phase", "query", "position", "intensity"}


def test_the_position_is_the_tenth_of_the_volume_that_the_slice_lies_in(tmp_path: Path) -> None:
    batches = batches_of(tmp_path)
    batch, asked = first_batch(batches), batches.index.draw(16, batches.generator(0))
    # Six slices: tenths 0, 1, 3, 5, 6 and 8.
    assert batch["position"].tolist() == [[0, 1, 3, 5, 6, 8][query.slice] for query in asked]


def test_patches_may_be_cut_elsewhere_than_the_coarse_stage_runs_for_loader_processes(tmp_path: Path) -> None:
    plain, on_cpu = batches_of(tmp_path), batches_of(tmp_path, device="cpu")
    on_cpu.maps.device = torch.device("meta")  # stands for a GPU; the maps are on disk
    assert same(first_batch(plain), first_batch(on_cpu))
    assert QueryBatches([], on_cpu.maps, on_cpu.planner, on_cpu.attention, 1).device.type == "meta"


def test_the_classes_of_a_batch_agree_with_its_labels_under_augmentation(tmp_path: Path) -> None:
    turned = RandomGeometry([0.8, 1.25], 15.0, shift=4.0)
    batch = first_batch(batches_of(tmp_path, all_organs=True, geometry=turned))
    assert batch["classes"].shape == batch["label"].shape == batch["attention"].shape
    shown = batch["classes"] == batch["organ"][:, None, None, None]
    # The label is sampled linearly and the classes are the nearest ones, so that they differ at borders only.
    assert float((shown != (batch["label"] == 1)).float().mean()) < 0.02 and bool(shown.any())
    assert set(batch["classes"].unique().tolist()) == {0, 1, 2}
    assert torch.equal(batch["attention"], batch["image"][:, -1:])
    assert batch["annotated"].shape == (16, 3) and bool(batch["annotated"][:, 1:].all())


def test_without_it_batches_are_as_before(tmp_path: Path) -> None:
    with_all, without = (first_batch(batches_of(tmp_path / str(on), all_organs=on)) for on in (True, False))
    assert with_all.keys() - without.keys() == {"attention", "classes", "annotated"}
    assert all(torch.equal(with_all[key], without[key]) for key in without)
