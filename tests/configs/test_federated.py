"""A federated training of two sites with MONAI's own client, and by a FLARE server where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from config_compositions import ROOT
from doc_pages import blocks
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from tiny_workflows import weights

from development.federated.__main__ import FOLDER, main, make_environment
from scripts.files.result_files import weights_digest
from scripts.monai_label.environment import python_of

pytestmark = pytest.mark.slow
Weights = dict[str, torch.Tensor]
LAST = "segmenter.decoder.output.weight"


def site(name: str, settings: dict[str, Any], trained: Path, folder: Path) -> MonaiAlgo:
    """A client as the page sets it up, with tiny settings and folders of its own."""
    (block,) = blocks(ROOT / "docs/how_to/federated.md", "python")
    code = block.split("client.initialize()")[0].replace("runs/site", str(folder / name))
    code = code.replace('"models/model.pt"', repr(str(trained / "model.pt"))).replace("20}", "2, **tiny}")
    tiny = {**settings, "seed": len(name)}
    names: dict[str, Any] = {"tiny": tiny}
    exec(code, names)
    client: MonaiAlgo = names["client"]
    client.initialize(extra={ExtraItems.CLIENT_NAME: name})
    return client


def moved(weights_now: Weights, changes: list[Weights]) -> Weights:
    """Federated averaging: the mean change of all sites, added."""
    mean = {name: torch.stack([change[name].double() for change in changes]).mean(dim=0) for name in changes[0]}
    return {name: (value + mean[name]).to(value.dtype) for name, value in weights_now.items()}


@pytest.fixture
def sites(
    training_settings: dict[str, Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[MonaiAlgo]:
    monkeypatch.chdir(ROOT)
    return [site(name, training_settings, trained, tmp_path) for name in ("north", "southern")]


def test_two_rounds_of_two_sites_change_the_weights_that_all_evaluate(
    sites: list[MonaiAlgo], trained: Path, tmp_path: Path
) -> None:
    state = weights(trained)
    shared = {name: value for name, value in state.items() if name.startswith("segmenter.")}
    rounds = [shared]
    for number in (1, 2):
        changes = []
        for client in sites:
            client.train(ExchangeObject(weights=rounds[-1]))
            answer = client.get_weights()
            assert answer.weight_type == WeightType.WEIGHT_DIFF and answer.weights.keys() == shared.keys()
            assert answer.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == 2
            assert client.trainer.state.epoch == number
            changes.append(answer.weights)
            # Of the four iterations of both rounds the first two warm up.
            assert client.trainer.optimizer.param_groups[0]["lr"] == {1: 1e-3, 2: 0.0}[number]
        assert float(changes[0][LAST].abs().max()) > 0
        assert not torch.equal(changes[0][LAST], changes[1][LAST]), "sites see their own batches"
        rounds.append(moved(rounds[-1], changes))
    maps = tmp_path / "north" / weights_digest(trained / "model.pt")
    assert list(maps.glob("*.npy"))  # in a folder of these weights
    metrics = sites[0].evaluate(ExchangeObject(weights=rounds[-1])).metrics
    assert 0.0 <= metrics["dice"] <= 1.0
    evaluated = sites[0].evaluator.network.state_dict()
    assert torch.equal(evaluated[LAST], rounds[-1][LAST])
    assert all(torch.equal(evaluated[name], value) for name, value in state.items() if name.startswith("coarse."))


def test_a_round_begins_with_the_weights_of_the_server_and_goes_on_with_new_batches(
    sites: list[MonaiAlgo], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, given = sites[0], {name: value for name, value in weights(trained).items() if name.startswith("segmenter.")}
    batches, first = [], []
    make = type(client.train_workflow.parser.get_parsed_content("train::dataset")).batch

    def watched(self: Any, iteration: int, generator: torch.Generator) -> Any:
        batches.append(iteration)
        first.append(client.trainer.network.state_dict()[LAST].clone())
        return make(self, iteration, generator)

    monkeypatch.setattr(type(client.train_workflow.parser.get_parsed_content("train::dataset")), "batch", watched)
    for _ in range(2):
        client.train(ExchangeObject(weights=given))
    assert batches[0] == 0 and sorted(set(batches)) == [0, 1, 2, 3]
    assert torch.equal(first[0], given[LAST]) and torch.equal(first[batches.index(2)], given[LAST])


def test_the_best_model_on_disk_is_the_whole_predictor(sites: list[MonaiAlgo], trained: Path) -> None:
    state = weights(trained)
    sites[0].evaluate(ExchangeObject(weights=state))
    best = sites[0].get_weights(extra={ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
    assert best.keys() == state.keys() and all(torch.equal(best[name], state[name]) for name in state)


@pytest.mark.skipif(
    not python_of(FOLDER).exists(), reason="python -m development.federated makes NVIDIA FLARE's Python"
)
def test_a_flare_server_averages_what_the_sites_send_without_the_one_that_was_lost(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_environment()
    folder, tiny = tmp_path / "run", ["--iterations", "2", "--spacing", "9", "10", "10", "12"]
    main(["--output_dir", str(folder), "--run_dir", str(trained), "--sites", "north", "west", *tiny])
    *_, mean, answered = capsys.readouterr().out.splitlines()
    assert answered == "sites that answered in each round: 1, 2 of 2"
    before, after = (float(cell) for cell in mean.split("|")[2:4])
    assert 0.0 <= before <= 1.0 and 0.0 <= after <= 1.0
    start, averaged = weights(folder, "start.pt"), weights(folder)
    assert averaged.keys() == start.keys() and not torch.equal(averaged[LAST], start[LAST])
    assert all(torch.equal(averaged[name], start[name]) for name in start if name.startswith("coarse."))
