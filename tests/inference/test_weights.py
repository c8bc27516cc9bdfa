"""Loading weights: what does not fit is refused with the reason and the remedy."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from config_compositions import ROOT
from ignite.engine import Engine
from tiny_predictor import MakePredictor
from tiny_weights import Touch
from tiny_workflows import TINY_PREDICTOR, workflow
from torch import Tensor, nn

from scripts.inference.weights import Ensemble, WeightsLoader, load_weights
from scripts.networks.encoder import ResNetEncoder
from scripts.report.saver import SaveReportd
from scripts.runtime.composition import composed


def changed(predictor: torch.nn.Module) -> torch.nn.Module:
    """The same network with other weights."""
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(1.0)
    return predictor


def test_what_was_saved_is_loaded(make_predictor: MakePredictor, tmp_path: Path) -> None:
    trained, fresh = changed(make_predictor()), make_predictor()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    load_weights(fresh, tmp_path / "model.pt")
    for first, second in zip(trained.state_dict().values(), fresh.state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_the_handler_loads_when_the_engine_starts(make_predictor: MakePredictor, tmp_path: Path) -> None:
    trained, fresh = changed(make_predictor()), make_predictor()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    engine = Engine(lambda _engine, _batch: None)
    WeightsLoader(str(tmp_path / "model.pt"), fresh).attach(engine)
    assert not torch.equal(next(fresh.parameters()), next(trained.parameters()))
    engine.run([0])
    assert torch.equal(next(fresh.parameters()), next(trained.parameters()))


def test_missing_weights_are_refused_with_the_ways_to_get_some(make_predictor: MakePredictor, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="no weights at .*model.pt: train or download them, or give another --model_path"
    ):
        load_weights(make_predictor(), tmp_path / "model.pt")


@pytest.mark.parametrize("organs", [["liver", "spleen"], ["spleen", "aorta"], ["spleen", "liver", "aorta"]])
def test_weights_for_other_organs_are_refused_with_both_lists(
    make_predictor: MakePredictor, tmp_path: Path, organs: list[str]
) -> None:
    # A change of order alone fits in every shape and would silently swap the organs.
    torch.save(make_predictor(organs=organs).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="are for the organs") as error:
        load_weights(make_predictor(), tmp_path / "model.pt")
    assert str(organs) in str(error.value) and "['spleen', 'liver']" in str(error.value)


def test_weights_of_another_network_are_refused_with_what_to_check(
    make_predictor: MakePredictor, tmp_path: Path
) -> None:
    torch.save(make_predictor(adjacent_slices=1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="1 of another shape") as error:
        load_weights(make_predictor(), tmp_path / "model.pt")
    assert "segmenter.encoder.stem.0.weight is [64, 4, 7, 7], expected [64, 2, 7, 7]" in str(error.value)
    assert "adjacent_slices" in str(error.value)


def test_weights_of_a_part_are_refused_with_what_is_missing(make_predictor: MakePredictor, tmp_path: Path) -> None:
    torch.save(ResNetEncoder("resnet18").state_dict(), tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match=r"tensors are missing, .* unknown, 0 of another shape \(no coarse"):
        load_weights(make_predictor(), tmp_path / "encoder.pt")


def test_refused_weights_change_nothing(make_predictor: MakePredictor, tmp_path: Path) -> None:
    predictor = make_predictor()
    before = [value.clone() for value in predictor.state_dict().values()]
    torch.save(changed(make_predictor(adjacent_slices=1)).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError):
        load_weights(predictor, tmp_path / "model.pt")
    assert all(torch.equal(old, new) for old, new in zip(before, predictor.state_dict().values(), strict=True))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_refused_by_name(make_predictor: MakePredictor, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(make_predictor().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"<html>404</html>"}[damage])
    with pytest.raises(ValueError, match=r"model\.pt is not a readable checkpoint") as error:
        load_weights(make_predictor(), path)
    assert "download" in str(error.value) and "delete" not in str(error.value), "it is the user's own file"


def test_a_file_with_code_in_it_is_refused_and_not_run(make_predictor: MakePredictor, tmp_path: Path) -> None:
    for path, save in ((tmp_path / "a.pt", torch.save), (tmp_path / "b.pt", _plain_pickle)):
        save({"organ_names": Touch(tmp_path / "ran")}, path)
        with pytest.raises(ValueError, match="holds more than weights") as error:
            load_weights(make_predictor(), path)
        assert "weights_only" not in str(error.value), "nobody is advised to open it all the same"
        assert "Unsupported global" in str(error.value), "what is in it is said"
    assert not (tmp_path / "ran").exists()


def _plain_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def test_a_file_that_holds_no_dictionary_is_refused(make_predictor: MakePredictor, tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds a Tensor, a checkpoint is a dictionary of tensors"):
        load_weights(make_predictor(), tmp_path / "model.pt")


def test_weights_that_are_not_finite_are_refused_by_tensor(make_predictor: MakePredictor, tmp_path: Path) -> None:
    state = changed(make_predictor()).state_dict()
    name = next(key for key, value in state.items() if value.is_floating_point())
    state[name].view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"not finite in 1 tensors \({name}\)"):
        load_weights(make_predictor(), tmp_path / "model.pt")


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
    ensemble = Ensemble(Constant(), paths)
    start(ensemble, paths)
    scores = ensemble(torch.zeros(1, 1, 4, 3, 2))
    assert scores.shape == (1, 2, 4, 3, 2)
    assert torch.allclose(scores, torch.full_like(scores, 0.3))


def test_an_ensemble_of_one_is_that_predictor(make_predictor: MakePredictor, tmp_path: Path) -> None:
    trained = make_predictor()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    ensemble = Ensemble(make_predictor(), str(tmp_path / "model.pt")).eval()
    start(ensemble, str(tmp_path / "model.pt"))
    volume = torch.randint(-200, 300, (1, 1, 40, 36, 6)).float()
    with torch.no_grad():
        assert torch.equal(ensemble(volume), trained(volume))


@pytest.mark.parametrize("paths", [[], ["a.pt", "a.pt"], ["a.pt", "./a.pt"]])
def test_no_fold_and_one_fold_twice_are_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="expected the model.pt of every fold, each once"):
        Ensemble(Constant(), paths)


def test_several_weights_without_the_ensemble_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 files of weights were given for 1 networks.*variants/ensemble.yaml"):
        start(Constant(), saved(tmp_path, 0.1, 0.2))


def test_the_recipe_makes_inference_use_every_fold(tmp_path: Path) -> None:
    paths = saved(tmp_path, 0.1, 0.2)
    running = workflow(
        "inference", "configs/variants/ensemble.yaml", model_path=paths, save_report=True, **TINY_PREDICTOR
    )
    ensemble = running.parser.get_parsed_content("predictor")
    assert isinstance(ensemble, Ensemble) and len(ensemble.members) == 2
    assert running.parser.get_parsed_content("handlers")[0].paths == paths
    steps = running.parser.get_parsed_content("postprocessing").transforms
    assert any(isinstance(step, SaveReportd) for step in steps), "a report takes several weights, too"


def train_nothing(folder: Path, overlays: Sequence[str] = (), **changes: Any) -> nn.Module:
    """A folder as a training leaves it, with the config of these overlays and initial weights."""
    files = [str(ROOT / name) for name in ("configs/train.yaml", *overlays)]
    parser = composed(files, **{**TINY_PREDICTOR, "device": "cpu", **changes})
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(parser.get()), encoding="utf-8")
    network: nn.Module = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), folder / "model.pt")
    return network.eval()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": [-125.0, 275.0]}, r"with window \[-125.0, 275.0\], the config has \[-175.  275.\]"),
        ({"spacing": [0.7, 12.0, 24.0]}, r"with spacing \[0.7, 12.0, 24.0\], the config has \[12. 12. 24.\]"),
    ],
)
def test_weights_of_a_training_with_other_settings_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    network, other = train_nothing(tmp_path / "one"), train_nothing(tmp_path / "other", **changes)
    start(other, str(tmp_path / "other/model.pt"))
    with pytest.raises(ValueError, match=f"{said}: take the settings of the training with --run_dir {tmp_path}/other"):
        start(network, str(tmp_path / "other/model.pt"))
    (tmp_path / "other/config.yaml").write_text("window: of another program\n")
    start(network, str(tmp_path / "other/model.pt"))


def test_trainings_of_different_networks_are_averaged(tmp_path: Path) -> None:
    queries, slices = str(tmp_path / "queries"), str(tmp_path / "slices")
    members = [train_nothing(Path(queries)), train_nothing(Path(slices), ["configs/baselines/slice.yaml"])]
    files = [str(ROOT / name) for name in ("configs/evaluate.yaml", "configs/variants/ensemble.yaml")]
    parser = composed(files, slices, model_path=[queries, slices], device="cpu")
    ensemble = parser.get_parsed_content("network").eval()
    start(ensemble, [queries, slices])
    volume = torch.randint(-200, 300, (1, 1, 40, 36, 6)).float()
    with torch.no_grad():
        expected = sum(member(volume).float() for member in members) / 2
        torch.testing.assert_close(ensemble(volume), expected)
    assert parser.get_parsed_content("scores_to_labels").background, "the run that is named makes the labels"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": [12.0, 12.0, 12.0]}, r"with spacing \[12.0, 12.0, 12.0\], the others with \[12.0, 12.0, 24.0\]"),
        ({"organs": ["liver"], "one_piece": []}, r"with organs \['liver'\], the others with"),
    ],
)
def test_a_training_on_another_grid_or_of_other_organs_is_no_member(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    train_nothing(tmp_path / "one")
    network = train_nothing(tmp_path / "other", **changes)
    with pytest.raises(ValueError, match=said):
        Ensemble(train_nothing(tmp_path / "same"), [str(tmp_path / "other")], spacing=TINY_PREDICTOR["spacing"])
    assert len(Ensemble(network, [str(tmp_path / "other")]).members) == 1


def test_a_training_that_predicts_with_a_part_of_its_network_is_no_member(tmp_path: Path) -> None:
    train_nothing(tmp_path / "coarse", ["configs/baselines/coarse_alone.yaml"])
    with pytest.raises(ValueError, match=r"coarse \(coarse alone\) predicts with a part of its network: leave it out"):
        Ensemble(train_nothing(tmp_path / "one"), [str(tmp_path / "coarse")])


def test_the_folder_of_a_training_is_no_file_of_weights(make_predictor: MakePredictor, tmp_path: Path) -> None:
    torch.save(make_predictor().state_dict(), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match=f"no weights at {tmp_path}: "):
        start(make_predictor(), str(tmp_path))
