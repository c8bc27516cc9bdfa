"""The bundle's inference workflow, of the same configs as that of ``python -m monai.bundle run inference``."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from torch import Tensor, nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]


def inference_workflow(
    model_path: str | None = None,
    run_dir: str | Sequence[str] | None = None,
    organs: Sequence[str] | None = None,
    device: str | None = None,
    **settings: Any,
) -> ConfigWorkflow:
    """Put the inference workflow together, with the predictor of a run.

    Args:
        model_path: weights; None: those of the run, else the bundle's own.
        run_dir: folder of a training, or its config files, see :func:`scripts.runtime.composition.trained_config`.
        organs: names of the organs to look for; None: all.
        device: "cpu" or "cuda"; None: as the config chooses.
        settings: what else replaces values of the config, by id.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: there is no such device.
    """
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    if device is not None:
        settings["device"] = f"$torch.device('{_known_device(device)}')"
    if organs is not None:
        settings["wanted_organs"] = [quoted(organ) for organ in organs]
    workflow = ConfigWorkflow(
        config_file=str(ROOT / "configs/inference.yaml"),
        meta_file=str(ROOT / "configs/metadata.json"),
        logging_file=False,
        run_id="inference",
        workflow_type="inference",
        bundle_root=str(ROOT),
        run_dir=quoted(run_dir) if isinstance(run_dir, str) else run_dir,
        **settings,
    )
    workflow.initialize()
    workflow.parser.get_parsed_content("command")  # takes over the predictor of the run, once
    workflow.parser["run_dir"] = None
    if model_path is not None:
        workflow.parser["model_path"] = quoted(model_path)
    return workflow


def run_workflow(
    scan: str, output_dir: str, series: str | None = None, **settings: Any
) -> tuple[list[str], dict[str, str]]:
    """Segment scans.

    Args:
        scan: file or folder.
        output_dir: folder of the results.
        series: one of several DICOM series.
        settings: further arguments of :func:`inference_workflow`.

    Returns:
        Names of the scans, and the reason for those that failed.

    Raises:
        FileNotFoundError: there is no such scan, run or weights file.
        ValueError: the scan or the weights do not fit; the cause of the error that MONAI makes of it.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("scripts.inference.scan_evaluator").setLevel(logging.CRITICAL)  # failures are said at the end
    paths = {"dataset_dir": quoted(scan), "output_dir": quoted(output_dir), "series": series}
    workflow = inference_workflow(**settings, **paths)
    names = [str(case["case"]) for case in workflow.parser.get_parsed_content("dataset").data]
    print(f"{len(names)} scan{'s'[: len(names) > 1]}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}", flush=True)
    evaluator = workflow.parser.get_parsed_content("evaluator")
    with showing_queries(evaluator.network):
        try:
            workflow.run()
        except SystemExit:  # some scans failed, the others are done
            pass
    workflow.finalize()
    return names, dict(evaluator.failures)


def quoted(text: str) -> str:
    r"""A text as an expression, so that ``#``, ``$``, ``%`` and ``@`` do not mean what they mean in a config.

    >>> quoted("/data/$a.nii.gz")
    "$'/data/\\x24a.nii.gz'"
    """
    return "$" + re.sub(r"[#$%@:]", lambda found: f"\\x{ord(found[0]):02x}", ascii(text))


def _known_device(device: str) -> str:
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device '{device}' is unknown: give cpu, cuda, or cuda:1 for the second GPU.")
    if device.startswith("cuda"):
        count, number = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
        if number >= count:
            raise ValueError(f"device '{device}' is not there, PyTorch finds {count} GPUs: leave --device out.")
    return device


@contextmanager
def showing_queries(predictor: nn.Module) -> Iterator[None]:
    """Show how many of the queries of each scan are answered, while the block runs.

    Args:
        predictor: a two-stage predictor, whose planner says how many queries there are; others show no bar.
    """
    planner, segmenter = getattr(predictor, "planner", None), getattr(predictor, "segmenter", None)
    if planner is None or segmenter is None:
        yield
        return
    bars: list[tqdm[Any]] = []

    def begin(module: nn.Module, inputs: Any, queries: Tensor) -> None:
        end()
        bars.append(tqdm(total=len(queries), desc="organ patches", unit="patch", leave=False, mininterval=1.0))

    def advance(module: nn.Module, inputs: Any, answers: Tensor) -> None:
        bars[-1].update(len(answers))

    def end() -> None:
        while bars:
            bars[-1].refresh()  # a fast scan would end before its bar has moved
            bars.pop().close()

    handles = [planner.register_forward_hook(begin), segmenter.register_forward_hook(advance)]
    try:
        yield
    finally:
        end()
        for handle in handles:
            handle.remove()
