"""Encoder + decoder as ONNX: another runtime computes the same logits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from config_compositions import INFERENCE, ROOT, load
from tiny_bundle import TinyBundle

from scripts.export import onnx_segmenter
from scripts.export.onnx_segmenter import TOLERANCE, example_queries, export_onnx

BIAS = "segmenter.decoder.output.bias"
onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "made/segmenter.onnx"
    export_onnx(str(path), str(ROOT / INFERENCE), **tiny_bundle.settings)
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_logits_of_any_number_of_queries_are_those_of_pytorch(
    tiny_bundle: TinyBundle, exported: Path, count: int
) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    queries = example_queries(tiny_bundle.predictor, count, seed=7)
    with torch.no_grad():
        expected = tiny_bundle.predictor.segmenter(queries)
    (logits,) = session.run(["logits"], {"queries": queries.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=TOLERANCE, rtol=0)
    assert float(expected.std()) > 10 * TOLERANCE, "logits that hardly differ would show nothing"


def test_the_file_says_what_a_query_is(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    base = load(INFERENCE)
    assert json.loads(said["organs"]) == base["organs"]
    assert json.loads(said["window_hu"]) == base["window"]
    slices = 2 * base["adjacent_slices"] + 1
    assert said["patch_size"] == "32" and said["channels"].startswith(f"{slices} slices")
    assert session.get_inputs()[0].shape[1:] == [slices + 1, 32, 32]


def test_a_file_that_computes_something_else_is_not_written(
    tiny_bundle: TinyBundle, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tiny_bundle.predictor.state_dict()
    torch.save({**state, BIAS: state[BIAS] + 2 * TOLERANCE}, tmp_path / "model.pt")
    monkeypatch.setattr(onnx_segmenter, "write_onnx", lambda predictor, path, _: shutil.copy(exported, path))
    settings = {**tiny_bundle.settings, "model_path": str(tmp_path / "model.pt")}
    with pytest.raises(ValueError, match="differ from PyTorch's by up to 0.002, and 0.001 is accepted: nothing was"):
        export_onnx(str(tmp_path / "made/segmenter.onnx"), str(ROOT / INFERENCE), **settings)
    assert list((tmp_path / "made").iterdir()) == []


def test_missing_packages_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(onnx_segmenter, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match="needs onnxscript: pip install -r requirements-export.txt"):
        export_onnx(str(tmp_path / "segmenter.onnx"))
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    wanted = (ROOT / "requirements-export.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in wanted if not line.startswith("#") and line not in pins] == []
