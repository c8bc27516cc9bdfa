"""Each baseline differs from the main recipe in what its header names, trains as it stands, and is scored by it."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from config_compositions import CONFIGS, INFERENCE, ROOT, commands, composed, header, leaves, load, references
from monai.bundle import ConfigParser
from tiny_workflows import ABDOMEN, EVALUATE, TRAIN, run, watch_iterations, weights

BASELINES = [name for name in CONFIGS if "/baselines/" in name]
TRAINED = [name for name in BASELINES if commands(name)[0].run_id == "training"]
every_baseline = pytest.mark.parametrize("name", BASELINES, ids=lambda name: Path(name).stem)
OUTSIDE = {"mednext": {}, "swin_unetr": {"coarse_network::feature_size": 12, "query_planner::patch_size": 64}}
"""Networks of others, which have no channels to set, and what makes them small."""


def named_ids(text: str) -> list[str]:
    """The ids that a header says its config differs in."""
    found = re.search(r"^Differs in: (.+?)\.$", text, re.M | re.S)
    assert found, "the header has no line 'Differs in: id, id.'"
    return re.split(r",\s+", found[1])


def lies_under(place: str, key: str) -> bool:
    return place == key or place.startswith(f"{key}::")


def changed_places(files: tuple[str, ...], name: str) -> set[str]:
    """Ids of the values that are other, or only there, with or without the config."""
    with_it, without = (
        dict(leaves(composed(chosen).config)) for chosen in (files, tuple(file for file in files if file != name))
    )
    return {place for place in with_it.keys() | without.keys() if with_it.get(place) != without.get(place)}


@every_baseline
def test_a_baseline_differs_only_in_the_ids_that_its_header_names_and_in_each_of_them(name: str) -> None:
    changed, named = changed_places(commands(name)[0].files, name), named_ids(header(name))
    assert {place for place in changed if not any(lies_under(place, key) for key in named)} == set()
    assert [key for key in named if not any(lies_under(place, key) for place in changed)] == []


@every_baseline
def test_a_baseline_changes_no_more_on_a_data_overlay(name: str) -> None:
    files, named = (TRAIN, "configs/data/abdomen.yaml", name), named_ids(header(name))
    assert [place for place in changed_places(files, name) if not any(lies_under(place, key) for key in named)] == []


@every_baseline
def test_a_baseline_has_at_most_eighteen_lines_below_its_header(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip() and line[0] != "#"]) <= 18


@pytest.mark.parametrize("name", TRAINED, ids=lambda name: Path(name).stem)
def test_the_training_of_a_baseline_is_tracked_to_its_end(name: str) -> None:
    assert composed(commands(name)[0].files)["training"][-1] == "$@tracking.finish()"


def test_a_site_does_not_replace_the_weights_that_all_sites_begin_with() -> None:
    assert composed((TRAIN, "configs/variants/federated.yaml"))["fine_tuning::published"] is None


def test_every_baseline_has_a_name_of_its_own() -> None:
    methods = [load(name)["method"] for name in BASELINES]
    assert len(set(methods)) == len(methods) and load(INFERENCE)["method"] not in methods


def test_without_an_attention_channel_nothing_pools_by_it() -> None:
    parser = composed(commands("configs/baselines/contrast_without_attention.yaml")[0].files)
    assert parser["contrastive::pooling"] == "patch"


def test_a_difference_that_the_header_does_not_name_would_be_found() -> None:
    files = commands("configs/baselines/slice.yaml")[0].files
    changed = changed_places(files, "configs/baselines/slice.yaml")
    assert {"method", "network_def::_target_", "training::1"} <= changed
    assert named_ids("Baseline: x.\nDiffers in: method,\ntrain::loss.\nLies on y.") == ["method", "train::loss"]


@pytest.fixture
def with_coarse_stage(trained: Path, tmp_path: Path) -> Path:
    """A run folder in which the coarse stage is done."""
    folder = tmp_path / "run"
    shutil.copytree(trained / "coarse_maps", folder / "coarse_maps")
    for path in [*trained.glob("coarse*.pt"), trained / "coarse_recall.json", trained / "dataset_check.json"]:
        shutil.copy(path, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED, ids=lambda name: Path(name).stem)
def test_a_baseline_trains_its_stages_and_is_scored_like_the_others(
    name: str,
    with_coarse_stage: Path,
    training_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {**training_settings, "contrastive::epochs": 1, "train::epochs": 1, "train::total_epochs": 1}
    if (outside := OUTSIDE.get(Path(name).stem)) is not None:
        del settings["coarse_network::channels"]
        settings |= {"train::epoch_length": 1, "train::dataset::batch_size": 32, **outside}
    iterations = watch_iterations(monkeypatch)
    run("training", TRAIN, name, output_dir=str(with_coarse_stage), **settings)
    steps = str(composed((TRAIN, name))["training"])
    trainers = {"contrastive": "@contrastive::trainer", "segmentation": "@train::trainer"}
    expected = [stage for stage, trainer in trainers.items() if trainer in steps]
    assert list(dict.fromkeys(stage for stage, _ in iterations)) == expected
    assert all(bool(value.isfinite().all()) for value in weights(with_coarse_stage).values())

    paths = {"run_dir": str(with_coarse_stage), "output_dir": str(tmp_path / "scores")}
    run("evaluate", EVALUATE, dataset_dir=settings["dataset_dir"], device=settings["device"], **paths)
    with (tmp_path / "scores/scores.csv").open(encoding="utf-8") as stream:
        assert {row["organ"] for row in csv.DictReader(stream)} <= set(ABDOMEN["organs"])


@pytest.mark.slow
@pytest.mark.parametrize("overlays", [[], ["configs/baselines/pixel_contrast.yaml"]], ids=["", "contrast on pixels"])
def test_queries_with_a_softmax_train_and_are_evaluated_with_the_settings_of_the_run(
    overlays: list[str], with_coarse_stage: Path, training_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**training_settings, "contrastive::epochs": 1, "train::epochs": 1, "softmax_queries": True}
    run("training", TRAIN, *overlays, output_dir=str(with_coarse_stage), **settings, **{"train::total_epochs": 1})
    trained = weights(with_coarse_stage)
    assert len(trained["segmenter.decoder.output.bias"]) == 1 + len(ABDOMEN["organs"])
    assert all(bool(value.isfinite().all()) for value in trained.values())
    paths = {"run_dir": str(with_coarse_stage), "output_dir": str(tmp_path / "scores")}
    run("evaluate", EVALUATE, dataset_dir=settings["dataset_dir"], device=settings["device"], **paths)
    assert (tmp_path / "scores/scores.csv").is_file()


TWELVE = "configs/data/btcv_12_organs.yaml"
BASELINES_BTCV_OVERLAYS = [name for name in CONFIGS if "/baselines/" in name and commands(name)[0].files[0] == TRAIN]


@pytest.mark.parametrize("data", ["configs/data/btcv.yaml", TWELVE])
@pytest.mark.parametrize("name", BASELINES_BTCV_OVERLAYS)
def test_it_fits_the_overlay_of_btcv(name: str, data: str) -> None:
    parser = composed((TRAIN, data, name))
    texts = [(place, value) for place, value in leaves(parser.config) if isinstance(value, str)]
    assert [(place, ref) for place, value in texts for ref in references(value) if ref not in parser] == []
    assert parser["spacing"] == [2.0, 2.0, 3.0]
    assert len(parser["organs"]) == (12 if data == TWELVE else 13)


def built(overlay: str, seed: int = 0) -> ConfigParser:
    """The networks of an overlay, small, with other initial weights for another seed."""
    torch.manual_seed(seed)
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in (TRAIN, overlay)])
    parser["encoder::name"], parser["contrastive::network::head::hidden"] = "resnet18", 16
    parser.parse()
    return parser


def test_the_default_keeps_the_decoder_out_of_the_contrastive_checkpoint() -> None:
    network = built("configs/baselines/fine_tuned.yaml").get_parsed_content("contrastive::network")
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "head"}


def test_every_idea_is_off_by_default() -> None:
    contrastive = composed((TRAIN,))["contrastive"]
    assert (contrastive["pooling"], contrastive["positives"]) == ("patch", "organ_phase")
    assert contrastive["dataset"]["_target_"] == "scripts.queries.batches.QueryBatches"
    assert contrastive["dataset"]["perturbation"] == "@perturbation"
