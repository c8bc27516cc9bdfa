"""Inference over many scans: progress per scan, one bad scan does not stop the others, and the exit status tells."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, LoadImaged, SelectItemsd
from torch import Tensor, nn
from tqdm import tqdm

from scripts.coarse.cpu_training import keep_freed_memory
from scripts.inference.manifest import Manifest
from scripts.inference.shared_scans import SharedScans
from scripts.inference.weights import paths_of
from scripts.preprocessing.organ_labels import LoadOrganLabelsd
from scripts.preprocessing.scan_reader import WARNINGS, CheckScand, ScanReader
from scripts.preprocessing.slice_store import stored_name
from scripts.preprocessing.working_grid import ToWorkingGridd
from scripts.runtime.plain_errors import describe
from scripts.runtime.processes import launched

logger = logging.getLogger(__name__)


class ScanDataset(Dataset):
    """Scans (case dictionaries) with their preprocessing; one that cannot be read becomes an item that says so."""

    shared: SharedScans | None = None  # given by the evaluator; a scan that another process has is an item that says so

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        """One scan, or what went wrong with it."""
        case = self.data[index]
        if self.shared and not self.shared.claim(stored_name(case)):
            return {"case": stored_name(case), "taken": True}
        try:
            return super().__getitem__(index)
        except Exception as error:  # any reader may fail in its own way; the scan is reported, the others go on
            return {"case": stored_name(case), "failure": describe(error)}


class ScanEvaluator(SupervisedEvaluator):
    """MONAI's evaluator, scan by scan; takes the same arguments.

    A scan that fails in reading, prediction, postprocessing or saving is logged and left out. Processes that write
    into one folder share the scans, and those that an earlier run has done are passed over. A handler with `kinds`
    writes results of each scan like the savers, after them; when the epoch is completed `is_last` tells handlers
    whether this is the process that reports for all, and `failures` which scans have no results. `quiet`: without bar.
    At its end `run` raises SystemExit with the list of failed scans, if there are any.
    """

    def __init__(self, **kwargs: Any) -> None:
        handlers = list(kwargs.get("val_handlers") or ())
        scorers = [handler for handler in handlers if hasattr(handler, "kinds")]
        if scorers:
            kwargs["postprocessing"] = Compose([kwargs["postprocessing"], *scorers]).flatten()
        super().__init__(**{**kwargs, "val_handlers": [self, *handlers]})
        self.failures: dict[str, str] = {}
        self.is_last, self.quiet = True, False
        self.manifest: Manifest | None = None
        self.shared: SharedScans | None = None
        postprocessing = kwargs.get("postprocessing")
        if savers := [step for step in getattr(postprocessing, "transforms", ()) if hasattr(step, "kinds")]:
            dataset = getattr(self.data_loader, "dataset", None)
            made_by = [self.network, getattr(dataset, "transform", None), self.inferer, postprocessing]
            self.manifest = Manifest(
                savers[0].output_dir,
                [kind for step in savers for kind in step.kinds],
                paths_of([path for handler in handlers for path in getattr(handler, "paths", ())]),
                {name: handler.settings for handler in scorers for name in handler.tables},
                settings_of(made_by),
            )
            self.shared = SharedScans(savers[0].output_dir)
            for step in savers:
                if hasattr(step, "note_run"):
                    step.note_run(self.manifest.facts())

    def attach(self, engine: Engine) -> None:
        """Register before the other handlers, which report what is gathered here."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._gather)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Go through all scans."""
        self.failures, self.is_last = {}, True
        if self.state.device.type == "cpu":
            keep_freed_memory()  # a scan in .77 of the time, with .1 GiB more at most
        quiet = self.quiet or launched()[0] > 0
        with self._sharing(), tqdm(total=self.state.epoch_length, desc="scans", unit="scan", disable=quiet) as self.bar:
            super().run(global_epoch=global_epoch)
        if self.failures and self.is_last:
            lines = "\n".join(f"  {name}: {reason}" for name, reason in self.failures.items())
            raise SystemExit(f"error: {len(self.failures)} of {self.state.epoch_length} scans failed:\n{lines}")

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Take part in the work on the output folder, if there is one."""
        if not self.manifest or not self.shared:
            yield
            return
        dataset: Any = self.data_loader.dataset  # type: ignore[union-attr]
        with self.shared.joined():
            done = self.manifest.claim(dataset.data, None if self.shared.is_first else self.shared.done())
            if self.shared.is_first:
                self.manifest.fold()
            self.shared.open_to_others(done)
            if done:
                logger.info("%d of %d scans are done already", len(done), len(dataset.data))
            dataset.data, dataset.shared = sorted(dataset.data, key=self.manifest.turn), self.shared
            try:
                yield
            finally:
                if self.shared.leave():
                    self.manifest.finish()

    def _gather(self, engine: Engine) -> None:
        if self.shared:
            self.is_last = self.shared.leave()
            self.failures = self.shared.failures() if self.is_last else self.failures

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, Any]:
        name = str(batchdata["case"][0])
        self.bar.set_postfix_str(name)
        output: dict[str, Any] = {}
        if "failure" in batchdata:
            self._fail(name, batchdata["failure"][0])
        elif "taken" not in batchdata:
            try:
                if self.manifest:
                    self.manifest.begin(name)
                output = super()._iteration(engine, batchdata)  # type: ignore[arg-type]
                if self.manifest and self.shared:
                    self.manifest.record(name, _warnings(engine))
                    self.shared.settle(name)
            except Exception as error:  # one bad scan must not stop the others
                logger.debug("%s failed", name, exc_info=True)
                self._fail(name, describe(error))
        self.bar.update()
        return output

    def _fail(self, name: str, reason: str) -> None:
        logger.error("%s failed: %s", name, reason)
        self.failures[name] = reason
        if self.shared:
            self.shared.settle(name, reason)


def _warnings(engine: Engine) -> list[str]:
    """What reader and postprocessing noticed about the scan of the last iteration."""
    output: Any = engine.state.output
    image = output[0].get("image") if isinstance(output, list) and output else None
    return str(getattr(image, "meta", {}).get(WARNINGS, "")).splitlines()


def labelled_scans(organs: Sequence[str], spacing: Sequence[float]) -> Compose:
    """Preprocessing of a scan that is scored: on the working grid, its label on the scan's own.

    The organs stand in the order of their class indices; the spacing of the working grid is in mm, R-L, A-P, S-I.
    """
    load = LoadImaged("image", image_only=True, ensure_channel_first=True, reader=ScanReader)
    steps = [load, CheckScand("image"), LoadOrganLabelsd("label", organs), ToWorkingGridd("image", spacing)]
    return Compose([*steps, SelectItemsd(["image", "label", "case"])])


PASSED_OVER = ("output_dir", "paths", "training", "cases")
OURS = ("scripts", "development")


def settings_of(item: Any, inside: frozenset[int] = frozenset()) -> Any:
    """Networks and transforms as plain values: their class and public attributes, without tensors and paths.

    A network of another bundle counts as what PyTorch prints of it. Objects around it (`inside`: ids) are passed over.
    """
    if item is None or isinstance(item, (str, bool, int, float)):
        return item
    inside |= {id(item)}
    if isinstance(item, Mapping):
        return {str(key): settings_of(value, inside) for key, value in item.items() if id(value) not in inside}
    if isinstance(item, (list, tuple, nn.ModuleList)):
        return [settings_of(value, inside) for value in item if id(value) not in inside]
    if isinstance(item, np.ndarray):
        return item.tolist()
    if isinstance(item, (Tensor, Path)):
        return None
    if isinstance(item, nn.Module) and type(item).__module__.partition(".")[0] not in OURS:
        return repr(item)
    kept = dict(item.named_children()) if isinstance(item, nn.Module) else {}
    kept |= {} if isinstance(item, type) else getattr(item, "__dict__", {})
    public = {key: value for key, value in kept.items() if not key.startswith("_") and key not in PASSED_OVER}
    return {"class": getattr(item, "__qualname__", type(item).__qualname__)} | settings_of(public, inside)
