"""Query patches of photographs: colours and attention as channels, unknown pixels marked and never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_predictor import make_predictor
from tiny_scan import KnownCoarse
from tiny_voc import CLASSES, photograph_case, write_voc
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from development.baselines.slice_batches import SliceBatches
from scripts.coarse.patches import CoarsePatches
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.organ_labels import IGNORED
from scripts.preprocessing.slice_store import SliceStore, save_array
from scripts.queries.attention import AttentionMap
from scripts.queries.batches import QueryBatches
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.planner import QueryPlanner
from scripts.queries.views import RandomGeometry
from scripts.runtime.streams import Batch

WINDOW = [0.0, 255.0]
STILL = RandomGeometry((1.0, 1.0), 0.0, 0.0)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = write_voc(tmp_path_factory.mktemp("voc"), train=2, val=1)
    return [photograph_case(folder, f"train_{n}") for n in range(2)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SliceStore:
    return SliceStore(CLASSES, [1.0, 1.0, 1.0], str(tmp_path_factory.mktemp("slices")), channels=3)


def maps_of(folder: Path, store: SliceStore, cases: list[dict[str, Any]]) -> CoarseMaps:
    """Coarse maps at half the resolution that know the classes; unknown borders belong to the disc."""
    for case in cases:
        label = store.open(case).label
        assert label is not None
        truth = torch.stack([(label[0] == 1) | (label[0] == IGNORED), label[0] == 2]).float()
        save_array(folder / f"{case['case']}.npy", (avg_pool2d(truth, 2) * 255).round().to(torch.uint8)[None].numpy())
    nobody = KnownCoarse(torch.zeros(0))
    return CoarseMaps(store, nobody, WINDOW, str(folder), precision="float32")  # type: ignore[arg-type]


def batches_of(folder: Path, store: SliceStore, cases: list[dict[str, Any]], **settings: Any) -> QueryBatches:
    planner = QueryPlanner(patch_size=32, threshold=0.3, margin_slices=1, pad=4)
    given: dict[str, Any] = {"batch_size": 12, **settings}
    return QueryBatches(cases, maps_of(folder, store, cases), planner, AttentionMap(), **given)


def first(batches: Any) -> Batch:
    batch: Batch = next(iter(batches))
    return batch


class Listener(nn.Module):
    """A segmenter that keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.in_channels = 4  # type: ignore[assignment]
        self.heard: list[Tensor] = []

    def forward(self, queries: Tensor) -> Tensor:
        self.heard.append(queries)
        return torch.zeros_like(queries[:, :1])


def test_a_training_patch_without_augmentation_is_the_predictors_patch(
    tmp_path: Path, store: SliceStore, cases: list[dict[str, Any]]
) -> None:
    batches = batches_of(tmp_path, store, cases[:1])
    batch, asked = first(batches), batches.index.draw(12, batches.generator(0))
    maps = batches.maps.of(cases[0]).float() / 255
    listener = Listener()
    predictor = make_predictor(
        organs=CLASSES, coarse=KnownCoarse(maps.permute(1, 2, 3, 0)), segmenter=listener, image_channels=3
    )
    image = store.open(cases[0]).image / 255
    for query in asked:
        row = torch.tensor([[query.slice, query.organ - 1, query.x, query.y]])
        organ_maps = maps[:, query.organ - 1 : query.organ]
        predictor._fuse_slab(predictor._with_room(image), organ_maps, row, 0, list(image.shape[1:]))
    torch.testing.assert_close(batch["image"], torch.cat(listener.heard), atol=2e-5, rtol=0)


def test_unknown_pixels_are_marked_in_the_label_and_hide_nothing_of_the_input(
    tmp_path: Path, store: SliceStore, cases: list[dict[str, Any]]
) -> None:
    batches = batches_of(tmp_path, store, cases)
    batch = first(batches)
    assert set(batch["label"].unique().tolist()) == {0.0, 1.0, float(IGNORED)}
    for query, label in zip(batches.index.draw(12, batches.generator(0)), batch["label"], strict=True):
        truth = store.open(cases[query.case]).label
        assert truth is not None
        window = truth[0, query.x : query.x + 32, query.y : query.y + 32]
        assert torch.equal(label[0] == IGNORED, window == IGNORED)
        assert torch.equal(label[0] == 1, window == query.organ)
    disc = batch["organ"] == 1
    border = batch["label"][disc, 0] == IGNORED
    # The attention goes on over the border: where it is zero there, the network would be told where the border is.
    assert float(batch["image"][disc, 3][border].mean()) > 0.5


def test_colours_mask_and_attention_move_together(
    tmp_path: Path, store: SliceStore, cases: list[dict[str, Any]]
) -> None:
    geometry = RandomGeometry((0.8, 1.3), rotation=40.0, shift=4.0, mirror=0.5)
    batch = first(batches_of(tmp_path, store, cases, geometry=geometry, present_only=True, batch_size=24))
    red, blue = batch["image"][:, 0], batch["image"][:, 2]
    inside = (batch["label"][:, 0] == 1).float()
    inner = (-torch.nn.functional.max_pool2d(-inside, 5, stride=1, padding=2)) > 0
    disc, square = batch["organ"] == 1, batch["organ"] == 2
    assert int(inner[disc].sum()) > 500 and int(inner[square].sum()) > 500
    assert float(red[disc][inner[disc]].min()) > 0.6 > 0.4 > float(blue[disc][inner[disc]].max())
    assert float(blue[square][inner[square]].min()) > 0.6 > 0.4 > float(red[square][inner[square]].max())
    assert float(batch["image"][:, 3][inner].min()) > 0.5


def test_the_intensity_under_the_attention_is_the_mean_over_the_colours(
    tmp_path: Path, store: SliceStore, cases: list[dict[str, Any]]
) -> None:
    batch = first(batches_of(tmp_path, store, cases))
    image, attention = batch["image"][:, :3], batch["image"][:, 3:]
    expected = (image * attention).sum(dim=(1, 2, 3)) / attention.sum(dim=(1, 2, 3)) / 3
    torch.testing.assert_close(batch["intensity"], expected)


def test_the_slice_baseline_has_three_channels_and_keeps_what_is_unknown(
    store: SliceStore, cases: list[dict[str, Any]]
) -> None:
    batch = first(SliceBatches(cases, store, WINDOW, 32, 12, STILL))
    assert batch["image"].shape == (12, 3, 32, 32)
    assert {1, IGNORED} <= set(batch["label"].unique().int().tolist()) <= {0, 1, 2, IGNORED}


def test_coarse_patches_of_photographs_are_flat_and_keep_what_is_unknown(
    store: SliceStore, cases: list[dict[str, Any]]
) -> None:
    segmenter = CoarseSegmenter(nn.Identity(), [1.0, 1.0, 1.0], [2.0, 2.0, 1.0], multiple=[8, 8, 1])
    batch = first(CoarsePatches(cases, store, segmenter, WINDOW, [32, 24, 1], 8, STILL))
    assert batch["image"].shape == (8, 3, 32, 24, 1) and batch["label"].shape == (8, 1, 32, 24, 1)
    assert set(batch["label"].unique().int().tolist()) == {0, 1, 2, IGNORED}
    red, blue = batch["image"][:, 0][batch["label"][:, 0] == 1], batch["image"][:, 2][batch["label"][:, 0] == 1]
    assert float(red.mean()) > 0.7 > 0.4 > float(blue.mean())
