"""The bundle's inference workflow, of the same configs as that of ``python -m monai.bundle run inference``."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from torch import Tensor, nn
from tqdm import tqdm

from scripts.files.result_files import read_manifest
from scripts.inference.manifest import Manifest
from scripts.outputs.measures import OrganFinding, findings_in
from scripts.runtime.plain_errors import BUNDLE


def inference_workflow(
    model_path: str | PathLike[str] | None = None,
    run_dir: str | PathLike[str] | Sequence[str] | None = None,
    organs: str | Sequence[str] | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> ConfigWorkflow:
    """Put the inference workflow together, with the predictor of a run.

    Without `model_path` the weights are those of the run, else the bundle's own. `run_dir` is the folder of a training,
    or its config files (:func:`scripts.runtime.composition.trained_config`). Without `organs` (names) it looks for all,
    and without `device` ("cpu", "cuda") the config chooses. Further settings replace values of the config by id.

    Raises: FileNotFoundError, ValueError if there is no such run or device.
    """
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    if device is not None:
        settings["device"] = f"$torch.device('{_known_device(str(device))}')"
    if organs is not None:
        settings["wanted_organs"] = [quoted(organ) for organ in ([organs] if isinstance(organs, str) else organs)]
    if model_path is not None:
        settings["model_path"] = quoted(fspath(model_path))
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs/inference.yaml"),
        meta_file=str(BUNDLE / "configs/metadata.json"),
        logging_file=False,
        run_id="inference",
        workflow_type="inference",
        bundle_root=str(BUNDLE),
        run_dir=quoted(fspath(run_dir)) if isinstance(run_dir, str | PathLike) else run_dir,
        **settings,
    )
    workflow.initialize()
    workflow.parser.get_parsed_content("command")  # takes over the predictor of the run, once
    if workflow.parser["score_pixels"]:
        raise ValueError(f"{run_dir} segments photographs: use the inference workflow (docs/how_to/voc.md).")
    workflow.parser["run_dir"] = None
    return workflow


@dataclass(frozen=True)
class Outcome:
    """What came of one scan: files of results, measures if they are among these, warnings; or why there are none."""

    case: str
    files: list[str] = field(default_factory=list)
    organs: list[OrganFinding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    def remarks(self) -> list[str]:
        """What to look at: warnings, and organs that the report points out."""
        doubted = [f"{found.organ} ({found.estimated_dice:.2f})" for found in self.organs if found.doubtful]
        return self.warnings + [f"look at {', '.join(doubted)}: low estimated Dice"] * bool(doubted)


def run_workflow(
    scan: str, output_dir: str, series: str | None = None, quiet: bool = False, **settings: Any
) -> list[Outcome]:
    """Segment the scans of a file or folder; return what came of each, nothing but in the last of several processes.

    `quiet` shows no bars. Further settings are arguments of :func:`inference_workflow`.

    Raises: ValueError, FileNotFoundError; from further up, the cause of the error that MONAI makes of it.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("scripts.inference.scan_evaluator").setLevel(logging.CRITICAL)  # failures are said at the end
    paths = {"dataset_dir": quoted(scan), "output_dir": quoted(output_dir), "series": series}
    workflow = inference_workflow(**settings, **paths)
    part = workflow.parser.get_parsed_content
    names = [str(case["case"]) for case in part("dataset").data]
    print(f"{len(names)} scan{'s'[: len(names) > 1]}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}", flush=True)
    evaluator = part("evaluator")
    evaluator.quiet = quiet
    # A SystemExit says that some scans failed; the others are done.
    with suppress(SystemExit), nullcontext() if quiet else showing_queries(evaluator.network):
        workflow.run()
    workflow.finalize()
    if not evaluator.is_last:
        return []
    listed = read_manifest(output_dir).get("cases", {})  # none if every scan failed
    failed = {name: Outcome(name, error=reason) for name, reason in evaluator.failures.items()}
    return [failed.get(name) or _outcome(name, evaluator.manifest, listed[name]["warnings"]) for name in names]


def _outcome(name: str, manifest: Manifest, warnings: list[str]) -> Outcome:
    """Of a scan with results; files of kinds that this run does not write are of another, perhaps by other settings."""
    there = {kind: path for kind, path in zip(manifest.kinds, manifest.files_of(name), strict=True) if path.is_file()}
    findings = findings_in(there["statistics"]) if "statistics" in there else []
    return Outcome(name, sorted(map(str, there.values())), findings, warnings)


def quoted(text: str) -> str:
    r"""A text as an expression, so that ``#``, ``$``, ``%`` and ``@`` do not mean what they mean in a config.

    >>> quoted("/data/$a.nii.gz")
    "$'/data/\\x24a.nii.gz'"
    """
    return "$" + re.sub(r"[#$%@:]", lambda found: f"\\x{ord(found[0]):02x}", ascii(text))


def _known_device(device: str) -> str:
    kind, _, number = device.partition(":")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ValueError(f"device '{device}' is unknown: give cpu, cuda, or cuda:1 for the second GPU.")
    if kind == "cuda" and int(number or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device '{device}' is not there, PyTorch finds {count} GPUs: leave --device out.")
    return device


@contextmanager
def showing_queries(predictor: nn.Module) -> Iterator[None]:
    """Show how many of the queries of each scan a two-stage predictor has answered, while the block runs."""
    planner, segmenter = getattr(predictor, "planner", None), getattr(predictor, "segmenter", None)
    if planner is None or segmenter is None:
        yield
        return
    bars: list[tqdm[Any]] = []

    def begin(module: nn.Module, inputs: Any, queries: Tensor) -> None:
        bars[:] = bars or [tqdm(desc="organ patches", unit="patch", leave=False, mininterval=1.0)]
        bars[0].refresh()  # a fast organ would end before the bar has moved
        bars[0].reset(len(queries))

    def advance(module: nn.Module, inputs: Any, answers: Tensor) -> None:
        bars[0].update(len(answers))

    handles = [planner.register_forward_hook(begin), segmenter.register_forward_hook(advance)]
    try:
        yield
    finally:
        for bar in bars:
            bar.refresh()
            bar.close()
        for handle in handles:
            handle.remove()
