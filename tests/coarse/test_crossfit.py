"""Cross-fitting: no case gets its attention from a network that has seen it, and a stopped run goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import UNet
from torch.nn.functional import interpolate

from development.phantom.tissues import ORGANS
from scripts.coarse.cpu_training import for_training
from scripts.coarse.crossfit import CrossFittedCoarse, split_folds
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.views import RandomGeometry

Cases = list[dict[str, Any]]


def people(count: int) -> list[str]:
    return [f"person {number}" for number in range(count)]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_every_case_is_in_exactly_one_fold_and_folds_are_of_one_size(count: int, folds: int, seed: int) -> None:
    folds = min(folds, count)
    split = split_folds(people(count), folds, seed)
    assert sorted(number for fold in split for number in fold) == list(range(count))
    assert len(split) == folds and max(map(len, split)) - min(map(len, split)) <= 1
    assert split == split_folds(people(count), folds, seed)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 9))
def test_scans_of_one_patient_are_in_one_fold(patients: list[str], folds: int, seed: int) -> None:
    split = split_folds(patients, min(folds, len(set(patients))), seed)
    assert sorted(number for fold in split for number in fold) == list(range(len(patients)))
    for fold in split:
        others = {patients[n] for other in split if other is not fold for n in other}
        assert not {patients[n] for n in fold} & others


@pytest.mark.parametrize(("count", "folds"), [(3, 4), (3, 0), (0, 2)])
def test_more_folds_than_patients_are_refused(count: int, folds: int) -> None:
    with pytest.raises(ValueError, match=f"{folds} folds of {count} training patients are not possible"):
        split_folds(people(count), folds, 0)


def stage_of(cases: Cases, store: SliceStore, folder: Path, **changes: Any) -> CrossFittedCoarse:
    """The coarse stage with a network of a few weights on voxels of 14 x 14 x 20 mm."""
    torch.manual_seed(0)
    network = UNet(3, 1, 1 + len(ORGANS), channels=[8, 16], strides=[2], norm="batch")
    segmenter = CoarseSegmenter(network, store.grid.spacing, [14.0, 14.0, 20.0], multiple=2)
    maps = CoarseMaps(store, segmenter, [-175.0, 275.0], str(folder / "maps"), precision="float32")
    settings: dict[str, Any] = {"epochs": 1, "epoch_length": 2, "folds": 3, "patch_size": [16, 16, 8], **changes}
    return CrossFittedCoarse(cases, maps, segmenter, str(folder), **settings)


class Recorded(CrossFittedCoarse):
    """Says who is trained on what and who predicts whom, and does neither."""

    def note(self) -> None:
        self.trained: dict[int, set[str]] = {}
        self.predicted: dict[str, int] = {}
        self.maps.prepare = self._predict  # type: ignore[method-assign]

    def _train(self, name: str, cases: Sequence[Mapping[str, Any]], segmenter: CoarseSegmenter, epochs: int) -> None:
        self.trained[id(segmenter)] = {case["case"] for case in cases}
        self.kept = [*getattr(self, "kept", []), segmenter]

    def _predict(self, cases: Sequence[Mapping[str, Any]], segmenter: Any = None, title: str = "") -> None:
        for case in cases:
            self.predicted.setdefault(case["case"], id(segmenter))

    def _report(self) -> None:
        (self.output_dir / "coarse_recall.json").write_text("{}")


@pytest.mark.parametrize("folds", [2, 3])
def test_no_case_gets_its_maps_from_a_network_that_has_seen_it(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path, folds: int
) -> None:
    stage = stage_of(phantom_cases, phantom_store, tmp_path, folds=folds)
    stage.__class__ = Recorded
    assert isinstance(stage, Recorded)
    stage.note()
    stage.run()
    everybody = {case["case"] for case in phantom_cases}
    assert set(stage.predicted) == everybody
    for case, network in stage.predicted.items():
        assert case not in stage.trained[network] and stage.trained[network] < everybody
    assert stage.trained[id(stage.segmenter)] == everybody, "the predictor's own network learns from all of them"


def test_a_single_fold_is_the_papers_in_sample_form(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path
) -> None:
    stage = stage_of(phantom_cases, phantom_store, tmp_path, folds=1)
    stage.__class__ = Recorded
    assert isinstance(stage, Recorded)
    stage.note()
    stage.run()
    assert set(stage.predicted.values()) == {id(stage.segmenter)} and len(stage.trained) == 1


def test_a_run_leaves_checkpoints_maps_and_the_recall_and_a_second_run_does_nothing(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path
) -> None:
    stage = stage_of(phantom_cases, phantom_store, tmp_path)
    stage.run()
    assert {path.name for path in tmp_path.glob("*.pt")} == {"coarse.pt", *(f"coarse_fold{n}.pt" for n in range(3))}
    assert len(list((tmp_path / "maps").glob("*.npy"))) == len(phantom_cases)
    assert set(json.loads((tmp_path / "coarse_recall.json").read_text())) == set(ORGANS)

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    kept |= {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").iterdir()}
    again = stage_of(phantom_cases, phantom_store, tmp_path)
    again.run()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for first, second in zip(stage.segmenter.state_dict().values(), again.segmenter.state_dict().values(), strict=True):
        assert torch.equal(first, second), "a finished stage is loaded"


@pytest.mark.parametrize("least_dice", [0.3, 0.0])
def test_an_organ_that_the_folds_network_finds_nowhere_or_everywhere_gets_the_final_networks_map(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path, least_dice: float
) -> None:
    stage = stage_of(phantom_cases, phantom_store, tmp_path, least_dice=least_dice)
    stage.run()
    case = phantom_cases[0]
    stored, shape = phantom_store.open(case), stage.maps.of(case).shape
    assert stored.label is not None
    organs = [stored.label == organ for organ in range(1, len(ORGANS) + 1)]
    right = torch.stack([interpolate(organ.float()[:, None], size=shape[2:], mode="area")[:, 0] for organ in organs], 1)
    found = (right * 200).round().to(torch.uint8)
    liver, spleen, stomach = (ORGANS.index(name) for name in ("liver", "spleen", "stomach"))
    by_fold = found.clone()
    by_fold[:, [liver, spleen]] = 0
    by_fold[:, stomach] = 255
    stage.maps.keep(case, by_fold)

    # The final network does not find the spleen either, and is surer of all others.
    final = (right * 255).round().to(torch.uint8)
    final[:, spleen] = 0

    def predict(other: Mapping[str, Any], segmenter: CoarseSegmenter) -> torch.Tensor:
        return final if other == case else stage.maps.of(other)

    stage.maps.predict = predict  # type: ignore[method-assign]
    (tmp_path / "maps/missed_organs_shown").unlink(missing_ok=True)  # as if it had been stopped before
    stage.run()

    kept = stage.maps.of(case)
    for organ in (liver, stomach):
        assert torch.equal(kept[:, organ], (final if least_dice else by_fold)[:, organ])
    assert (kept[:, spleen] == 0).all(), "nobody finds the spleen"
    others = [n for n in range(len(ORGANS)) if n not in (liver, spleen, stomach)]
    assert torch.equal(kept[:, others], found[:, others]), "what the held-out network found stays out of sample"


def test_where_a_sure_map_lies_elsewhere_than_the_contour_the_contour_is_doubted_and_the_map_stays(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = stage_of(phantom_cases, phantom_store, tmp_path)
    stage.run()
    (tmp_path / "coarse_recall.json").unlink()
    liver, right = ORGANS.index("liver"), {}
    for case in phantom_cases:
        label = phantom_store.open(case).label
        assert label is not None
        organs = torch.stack([label == organ for organ in range(1, len(ORGANS) + 1)], 1).float()
        right[case["case"]] = (interpolate(organs, size=stage.maps.of(case).shape[2:], mode="area") * 255).to(
            torch.uint8
        )
        stage.maps.keep(case, right[case["case"]])
    first = phantom_cases[0]
    beside = right[first["case"]].clone()
    beside[:, liver] = beside[:, liver].flip(1)  # the liver on the other side of the scan
    stage.maps.keep(first, beside)
    stage.maps.file(first).with_name("missed_organs_shown").unlink()
    stage = stage_of(phantom_cases, phantom_store, tmp_path)
    stage.maps.predict = lambda case, segmenter: right[case["case"]]  # type: ignore[method-assign]
    with caplog.at_level("INFO", logger="scripts.coarse.crossfit"):
        stage.run()
    assert torch.equal(stage.maps.of(first)[:, liver], beside[:, liver]), "it is not replaced by an in-sample map"
    name = first["case"]
    assert json.loads((tmp_path / "coarse_recall.json").read_text())["liver"]["doubted_cases"] == [name]
    assert f"{name} liver (displaced)" in caplog.text


def test_a_dice_above_one_is_refused(phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="least_dice 50.0 is no Dice"):
        stage_of(phantom_cases, phantom_store, tmp_path, least_dice=50.0)


def test_folds_have_networks_of_their_own(phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path) -> None:
    stage_of(phantom_cases, phantom_store, tmp_path, epoch_length=6).run()  # enough for draws to differ
    weights = [torch.load(path, weights_only=True)["network"] for path in sorted(tmp_path.glob("*.pt"))]
    name = next(key for key in weights[0] if key.endswith("conv.weight"))
    assert len({tuple(each[name].flatten().tolist()) for each in weights}) == 4


def test_a_stopped_run_ends_where_an_unbroken_one_ends(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"folds": 1, "epochs": 3, "geometry": RandomGeometry(), "seed": 4}
    whole = stage_of(phantom_cases, phantom_store, tmp_path / "whole", **settings)
    whole.run()

    broken = stage_of(phantom_cases, phantom_store, tmp_path / "broken", **settings)
    seen = 0

    def stop(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:  # in the second epoch of two iterations
            raise KeyboardInterrupt

    broken.segmenter.network.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = stage_of(phantom_cases, phantom_store, tmp_path / "broken", **settings)
    resumed.run()
    for first, second in zip(
        whole.segmenter.state_dict().values(), resumed.segmenter.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second)


def test_training_lowers_the_loss_on_the_organs(
    phantom_cases: Cases, phantom_store: SliceStore, tmp_path: Path
) -> None:
    def liver_contrast(stage: CrossFittedCoarse) -> float:
        """Mean liver probability inside of livers minus that outside."""
        differences = []
        for case in phantom_cases:
            stage.maps.write(case, stage.segmenter)
            probability = stage.maps.of(case)[:, ORGANS.index("liver")].float() / 255
            label = phantom_store.open(case).label
            assert label is not None
            inside = torch.nn.functional.interpolate(
                (label == ORGANS.index("liver") + 1)[:, None].float(), size=probability.shape[1:], mode="area"
            )[:, 0]
            differences.append((probability * inside).sum() / inside.sum() - (probability * (1 - inside)).mean())
        return float(torch.stack(differences).mean())

    stage = stage_of(phantom_cases, phantom_store, tmp_path, folds=1, epochs=3, epoch_length=20, learning_rate=1e-2)
    before = liver_contrast(stage)
    for path in (tmp_path / "maps").iterdir():
        path.unlink()
    stage.run()
    assert before < 0.1 < 0.25 < liver_contrast(stage)


def test_a_network_made_quick_for_training_keeps_its_weights_names_results_and_gradients() -> None:
    torch.manual_seed(0)
    plain = UNet(3, 1, 3, [4, 8], [2], norm="batch")
    quick = for_training(copy.deepcopy(plain), torch.device("cpu"))
    image, weights = torch.randn(2, 1, 8, 8, 8), torch.randn(2, 3, 8, 8, 8)
    outputs = [network(image) for network in (plain, quick)]
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    assert list(plain.state_dict()) == list(quick.state_dict())
    assert any(name.endswith("A.weight") for name in plain.state_dict()), "it has PReLUs"
    for first, second in zip(plain.parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-3, atol=1e-4)
