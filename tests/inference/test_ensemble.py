"""The predictors of several folds as one: the mean of what they say, and the right weights in each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from tiny_predictor import MakePredictor
from tiny_workflows import TINY_PREDICTOR, workflow
from torch import Tensor, nn

from scripts.inference.weights import FoldEnsemble, WeightsLoader


class Constant(nn.Module):
    """Answers with one learned number."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, volume: Tensor) -> Tensor:
        return self.value.expand(1, 2, *volume.shape[2:])


def saved(folder: Path, *values: float) -> list[str]:
    paths = [str(folder / f"{n}.pt") for n in range(len(values))]
    for path, value in zip(paths, values, strict=True):
        torch.save(Constant(value).state_dict(), path)
    return paths


def start(network: nn.Module, path: str | list[str]) -> None:
    engine = Engine(lambda _engine, _batch: None)
    WeightsLoader(path, network).attach(engine)
    engine.run([0])


def test_the_class_scores_of_the_folds_are_averaged(tmp_path: Path) -> None:
    paths = saved(tmp_path, 0.1, 0.2, 0.6)
    ensemble = FoldEnsemble(Constant(), paths)
    start(ensemble, paths)
    scores = ensemble(torch.zeros(1, 1, 4, 3, 2))
    assert scores.shape == (1, 2, 4, 3, 2)
    assert torch.allclose(scores, torch.full_like(scores, 0.3))


def test_an_ensemble_of_one_is_that_predictor(make_predictor: MakePredictor, tmp_path: Path) -> None:
    trained = make_predictor()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    ensemble = FoldEnsemble(make_predictor(), str(tmp_path / "model.pt")).eval()
    start(ensemble, str(tmp_path / "model.pt"))
    volume = torch.randint(-200, 300, (1, 1, 40, 36, 6)).float()
    with torch.no_grad():
        assert torch.equal(ensemble(volume), trained(volume))


@pytest.mark.parametrize("paths", [[], ["a.pt", "a.pt"]])
def test_no_fold_and_one_fold_twice_are_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="expected the model.pt of every fold, each once"):
        FoldEnsemble(Constant(), paths)


def test_several_weights_without_the_ensemble_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 files of weights were given for 1 networks.*variants/ensemble.yaml"):
        start(Constant(), saved(tmp_path, 0.1, 0.2))


def test_the_recipe_makes_inference_use_every_fold(tmp_path: Path) -> None:
    paths = saved(tmp_path, 0.1, 0.2)
    running = workflow("inference", "configs/variants/ensemble.yaml", model_path=paths, **TINY_PREDICTOR)
    ensemble = running.parser.get_parsed_content("predictor")
    assert isinstance(ensemble, FoldEnsemble) and len(ensemble.members) == 2
    assert running.parser.get_parsed_content("handlers")[0].paths == paths
