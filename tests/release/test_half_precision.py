"""Weights of half the size: what is rounded, what is not, and every way in which clients load them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from config_compositions import ROOT, composed
from ignite.handlers import Checkpoint
from monai.bundle import load as load_bundle
from monai.networks.utils import copy_model_state
from tiny_predictor import MakePredictor
from torch import Tensor

from development.release.half_precision import halved, main, rounding, write_half_precision
from scripts.inference.predictor import TwoStagePredictor
from scripts.inference.weights import load_weights

State = dict[str, Tensor]


@pytest.fixture
def original(make_predictor: MakePredictor) -> State:
    """A state dict in which the statistics of normalisation have left their first values."""
    predictor = make_predictor()
    for name, value in predictor.state_dict().items():
        if "running_" in name:
            value.uniform_(0.1, 3.0, generator=torch.Generator().manual_seed(len(name)))
    return predictor.state_dict()


@pytest.fixture
def model(original: State, tmp_path: Path) -> Path:
    path = tmp_path / "float32.pt"
    torch.save(original, path)
    return path


def other_weights(make_predictor: MakePredictor) -> TwoStagePredictor:
    """A predictor with weights that the ones to load must replace."""
    predictor = make_predictor()
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(0.5)
    return predictor


def assert_rounded(state: State, original: State, dtype: torch.dtype = torch.float16) -> None:
    """Float32 throughout: kernels are those of the original after rounding, everything else is the original's."""
    for name, value in original.items():
        assert state[name].dtype == value.dtype, name
        assert torch.equal(state[name], value.to(dtype).float() if value.dim() > 1 else value), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_kernels_are_halved_and_what_has_one_axis_stays(original: State, dtype: torch.dtype) -> None:
    result = halved(original, str(dtype).removeprefix("torch."))
    assert list(result) == list(original)
    for name, value in result.items():
        assert value.dtype == (dtype if original[name].dim() > 1 else original[name].dtype), name
    statistics = [name for name in result if "running_var" in name]
    assert statistics and all(result[name].dtype is torch.float32 for name in statistics)
    assert result["organ_names"].dtype is torch.uint8


def test_the_file_has_half_of_the_size(model: Path, tmp_path: Path) -> None:
    done = write_half_precision(model, tmp_path / "half.pt")
    assert (tmp_path / "half.pt").stat().st_size < 0.55 * model.stat().st_size
    assert done.bytes_after < 0.51 * done.bytes_before


def test_the_rounding_error_is_that_of_the_number_of_bits(original: State) -> None:
    # Rounding to n significant bits errs by up to 2^-n of a value; over a kernel by about 0.4 of that.
    for dtype, bits in (("float16", 11), ("bfloat16", 8)):
        assert 0.2 * 2**-bits < rounding(original, halved(original, dtype)).largest_relative_error < 2**-bits


def test_load_weights_reads_them_into_float32(
    make_predictor: MakePredictor, model: Path, original: State, tmp_path: Path
) -> None:
    write_half_precision(model, tmp_path / "half.pt")
    predictor = other_weights(make_predictor)
    load_weights(predictor, tmp_path / "half.pt")
    assert_rounded(predictor.state_dict(), original)


def test_the_ways_of_other_clients_read_them_into_float32(
    make_predictor: MakePredictor, model: Path, original: State, tmp_path: Path
) -> None:
    write_half_precision(model, tmp_path / "half.pt", "bfloat16")
    state = torch.load(tmp_path / "half.pt", weights_only=True)
    strict, loose, copied, ignite = (other_weights(make_predictor) for _ in range(4))
    strict.load_state_dict(state)
    loose.load_state_dict(state, strict=False)  # MONAI Label
    copy_model_state(copied, state)  # monai.bundle.load, MonaiAlgo
    Checkpoint.load_objects({"model": ignite}, str(tmp_path / "half.pt"))  # CheckpointLoader, ckpt_export
    for predictor in (strict, loose, copied, ignite):
        assert_rounded(predictor.state_dict(), original, torch.bfloat16)


def test_monai_bundle_load_reads_them_from_a_bundle_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "bundle/configs")
    torch.manual_seed(0)
    original = composed(("configs/inference.yaml",)).get_parsed_content("network_def").state_dict()
    torch.save(original, tmp_path / "float32.pt")
    write_half_precision(tmp_path / "float32.pt", tmp_path / "bundle/models/model.pt")
    network = load_bundle("bundle", bundle_dir=str(tmp_path), workflow_type="inference", source="github", device="cpu")
    assert isinstance(network, TwoStagePredictor)
    assert_rounded(network.state_dict(), original)


def test_scores_hardly_change(make_predictor: MakePredictor, original: State, model: Path, tmp_path: Path) -> None:
    write_half_precision(model, tmp_path / "half.pt")
    volume = torch.randn(1, 1, 40, 36, 5, generator=torch.Generator().manual_seed(0)) * 200
    before, after = make_predictor(), make_predictor()
    before.load_state_dict(original)
    load_weights(after, tmp_path / "half.pt")
    with torch.no_grad():
        difference = (before(volume) - after(volume)).abs()
    assert 0 < float(difference.mean()) < 1e-3


def test_the_same_weights_give_the_same_bytes_wherever_they_are_written(model: Path, tmp_path: Path) -> None:
    write_half_precision(model, tmp_path / "one/model.pt")
    write_half_precision(model, tmp_path / "two/other.pt")
    assert (tmp_path / "one/model.pt").read_bytes() == (tmp_path / "two/other.pt").read_bytes()


def test_halving_twice_changes_nothing_more(model: Path, tmp_path: Path) -> None:
    write_half_precision(model, tmp_path / "half.pt")
    done = write_half_precision(tmp_path / "half.pt", tmp_path / "again.pt")
    assert done.largest_relative_error == 0
    assert (tmp_path / "half.pt").read_bytes() == (tmp_path / "again.pt").read_bytes()


def test_a_value_beyond_float16_is_refused_and_bfloat16_takes_it() -> None:
    state = {"layer.weight": torch.full((2, 2), 1e5), "running_var": torch.full((2,), 1e5)}
    with pytest.raises(ValueError, match=r"layer.weight has values up to 1e\+05, .* up to 6.55e\+04: choose bfloat16"):
        halved(state)
    assert halved(state, "bfloat16")["layer.weight"].isfinite().all()
    with pytest.raises(ValueError, match="these weights are broken"):
        halved({"layer.weight": torch.full((2, 2), float("nan"))})
    with pytest.raises(ValueError, match="dtype 'int8' is unknown: choose one of float16, bfloat16"):
        halved(state, "int8")


def test_the_checkpoint_of_a_stage_is_refused_and_nothing_is_written(tmp_path: Path, original: State) -> None:
    torch.save({"epoch": 3, "network": original}, tmp_path / "segmentation.pt")
    with pytest.raises(ValueError, match="holds epoch, network beside tensors: it is the checkpoint of a stage"):
        write_half_precision(tmp_path / "segmentation.pt", tmp_path / "half.pt")
    assert not (tmp_path / "half.pt").exists()


def test_the_command_says_what_was_saved_and_lost(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(model), str(tmp_path / "half.pt")])
    printed = capsys.readouterr().out
    assert "kernels in float16" in printed and "largest rounding error of a kernel: " in printed
    with pytest.raises(FileNotFoundError, match="no weights at"):
        main([str(tmp_path / "none.pt"), str(tmp_path / "other.pt")])
