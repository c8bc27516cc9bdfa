"""Segment one prepared volume in a process of its own and print what it took, as JSON.

A process of its own, because the peak memory of a process never falls again. ``inference`` prepares the folder
and starts this; by hand it is of little use.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from development.benchmarks.phantom_bundle import OracleCoarse, bundle_config
from development.benchmarks.timing import peak_memory
from scripts.inference.predictor import TwoStagePredictor
from scripts.runtime.plain_errors import install_plain_errors


def oracle_predictor(parser: ConfigParser, maps: Path) -> TwoStagePredictor:
    """The config's predictor with random weights, whose coarse stage answers with the maps of a file."""
    predictor: TwoStagePredictor = parser.get_parsed_content("network").eval()
    answer = torch.from_numpy(np.load(maps)).float() / 255
    predictor.add_module("coarse", OracleCoarse(predictor.coarse, answer))
    return predictor


def segment_working_grid(folder: Path, parser: ConfigParser) -> None:
    """Only the predictor, on ``volume.npy`` [x, y, z] int16 HU."""
    predictor, infer = oracle_predictor(parser, folder / "maps.npy"), parser.get_parsed_content("inferer")
    infer(torch.from_numpy(np.load(folder / "volume.npy"))[None, None].float(), predictor)


def main() -> None:
    """Measure one volume."""
    parser = argparse.ArgumentParser(prog="python -m development.benchmarks.one_volume", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder made by development.benchmarks.inference")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings: dict[str, Any] = json.loads((options.folder / "settings.json").read_text(encoding="utf-8"))
    config = bundle_config(settings=settings)
    before, start = peak_memory(), time.process_time()
    with torch.no_grad():
        segment_working_grid(options.folder, config)
    print(json.dumps({"seconds": time.process_time() - start, "before": before, "peak": peak_memory()}))


if __name__ == "__main__":
    install_plain_errors()
    main()
