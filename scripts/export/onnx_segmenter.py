"""Encoder + decoder as an ONNX file: queries in, logits out, for runtimes without PyTorch.

    python -m scripts.export.onnx_segmenter --run_dir runs/mine --filepath runs/mine/segmenter.onnx

Coarse stage, planning and fusion are loops over tiles and windows, which an ONNX graph cannot hold; a program that uses
the file does them itself, or uses the TorchScript export instead.
"""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fire
import torch
from torch import Tensor

from scripts.export.torchscript import INFERENCE, claim_export, trained_predictor
from scripts.files.atomic_write import replacing
from scripts.inference.predictor import TwoStagePredictor
from scripts.runtime.composition import check_ids, composed
from scripts.runtime.plain_errors import install_plain_errors

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3  # largest difference of a logit between PyTorch and onnxruntime


def properties_of(predictor: TwoStagePredictor, spacing: Sequence[float], organs: Sequence[str]) -> dict[str, str]:
    """What a program has to know to make queries, as texts that an ONNX file can carry."""
    return {
        "organs": json.dumps(list(organs)),
        "spacing_mm": json.dumps(list(spacing)),
        "window_hu": json.dumps([predictor.lower, predictor.upper]),
        "patch_size": str(predictor.planner.patch_size),
        "channels": f"{predictor.segmenter.encoder.in_channels - 1} slices (colours) as [0, 1], then the attention",
        "logits": "the organ; or background and organs, to combine as scripts.queries.softmax_queries does",
    }


def example_queries(predictor: TwoStagePredictor, count: int, seed: int = 0) -> Tensor:
    """Random queries [query, channel, x, y] in [0, 1]."""
    size = predictor.planner.patch_size
    shape = (count, predictor.segmenter.encoder.in_channels, size, size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def largest_difference(predictor: TwoStagePredictor, path: Path) -> float:
    """The largest difference of a logit between PyTorch and onnxruntime, for batches of one and of several queries."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences = []
    for count in (1, 3):
        queries = example_queries(predictor, count, seed=count)
        with torch.no_grad():
            expected = predictor.segmenter(queries)
        found = torch.from_numpy(session.run(None, {"queries": queries.numpy()})[0])
        differences.append((expected - found).abs().max())
    return float(torch.stack(differences).max())  # not a number, if one is


def write_onnx(predictor: TwoStagePredictor, path: Path, properties: dict[str, str]) -> None:
    """Convert the query network; the number of queries stays free."""
    import onnx

    torch.onnx.export(
        predictor.segmenter,
        (example_queries(predictor, 2),),
        str(path),
        input_names=["queries"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("query")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def export_onnx(
    filepath: str = "models/segmenter.onnx",
    config_file: str | Sequence[str] = INFERENCE,
    tolerance: float = TOLERANCE,
    **overrides: Any,
) -> None:
    """Write encoder + decoder, queries [query, channel, x, y] -> logits [query, output, x, y], and check the file.

    Several config files are merged left to right; further values replace theirs by id, such as model_path. A file whose
    logits differ from PyTorch's by more than the tolerance is not written (ValueError).
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(f"the ONNX export needs {', '.join(missing)}: pip install -r requirements-export.txt.")
    check_ids(composed(config_file, overrides.get("run_dir")), overrides)
    parser = composed(config_file, **overrides)
    claim_export(filepath, config_file, parser)
    predictor = trained_predictor(parser)
    properties = properties_of(predictor, parser.get_parsed_content("spacing"), parser.get_parsed_content("organs"))
    with replacing(filepath) as written:
        write_onnx(predictor, written, properties)
        difference = largest_difference(predictor, written)
        if not difference <= tolerance:
            off = f"onnxruntime's logits differ from PyTorch's by up to {difference:.2g}, and {tolerance:g} is accepted"
            raise ValueError(f"{off}: nothing was written. Try other versions of onnx and onnxruntime.")
    print(f"{filepath}: {Path(filepath).stat().st_size / 2**20:.1f} MiB, logits within {difference:.1e} of PyTorch's")


if __name__ == "__main__":
    install_plain_errors()
    fire.Fire(export_onnx)
