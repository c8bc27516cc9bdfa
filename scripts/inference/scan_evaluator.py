"""Inference over many scans: progress per scan, one bad scan does not stop the others, and the exit status tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, LoadImaged, SelectItemsd
from tqdm import tqdm

from scripts.inference.ensemble import paths_of
from scripts.inference.manifest import Manifest
from scripts.preprocessing.organ_labels import LoadOrganLabelsd
from scripts.preprocessing.scan_reader import WARNINGS, CheckScand, ScanReader
from scripts.preprocessing.slice_store import stored_name
from scripts.preprocessing.working_grid import ToWorkingGridd
from scripts.runtime.plain_errors import complaint, root_cause

logger = logging.getLogger(__name__)


class ScanDataset(Dataset):
    """Scans with their preprocessing; a scan that cannot be read becomes an item that says so.

    Args:
        data: case dictionaries.
        transform: preprocessing.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Callable[[Any], Any]) -> None:
        super().__init__(data=data, transform=transform)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        """One scan, or what went wrong with it."""
        case = self.data[index]
        try:
            return super().__getitem__(index)
        except Exception as error:  # any reader may fail in its own way; the scan is reported, the others go on
            return {"case": stored_name(case), "failure": describe(error)}


def describe(error: BaseException) -> str:
    """The first error of a chain: MONAI wraps what a transform raised in its own traceback text."""
    sentence = complaint(error)
    if sentence:
        return sentence
    cause = root_cause(error)
    return f"{type(cause).__name__}: {cause}"


class ScanEvaluator(SupervisedEvaluator):
    """MONAI's evaluator, scan by scan; takes the same arguments.

    A scan that fails in reading, prediction, postprocessing or saving is logged and left out.

    Raises (from run): SystemExit with the list of failed scans, after all the others are done.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.failures: dict[str, str] = {}
        self.manifest: Manifest | None = None
        steps = getattr(kwargs.get("postprocessing"), "transforms", ())
        savers = [step for step in steps if hasattr(step, "kinds")]
        handlers = kwargs.get("val_handlers") or ()
        weights = [path for handler in handlers for path in getattr(handler, "paths", ())]
        scorers = [handler for handler in handlers if hasattr(handler, "tables")]
        if savers or scorers:
            kinds = [kind for step in savers for kind in step.kinds]
            tables = {name: handler.settings for handler in scorers for name in handler.tables}
            self.manifest = Manifest([*savers, *scorers][0].output_dir, kinds, paths_of(weights), tables)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Go through all scans."""
        self.failures = {}
        if self.manifest:
            self.manifest.claim(self.data_loader.dataset.data)  # type: ignore[union-attr]
        try:
            with tqdm(total=self.state.epoch_length, desc="scans", unit="scan") as self.bar:
                super().run(global_epoch=global_epoch)
        finally:
            if self.manifest:
                self.manifest.finish()
        if self.failures:
            lines = "\n".join(f"  {name}: {reason}" for name, reason in self.failures.items())
            raise SystemExit(f"error: {len(self.failures)} of {self.state.epoch_length} scans failed:\n{lines}")

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, Any]:
        name = str(batchdata["case"][0])
        self.bar.set_postfix_str(name)
        output: dict[str, Any] = {}
        try:
            if "failure" in batchdata:
                raise ScanError(batchdata["failure"][0])
            if self.manifest:
                self.manifest.begin(name)
            output = super()._iteration(engine, batchdata)  # type: ignore[arg-type]
            if self.manifest:
                self.manifest.record(name, _warnings(engine))
        except ScanError as error:
            self._fail(name, str(error))
        except Exception as error:  # one bad scan must not stop the others
            logger.debug("%s failed", name, exc_info=True)
            self._fail(name, describe(error))
        self.bar.update()
        return output

    def _fail(self, name: str, reason: str) -> None:
        logger.error("%s failed: %s", name, reason)
        self.failures[name] = reason


def _warnings(engine: Engine) -> list[str]:
    """What the reader noticed about the scan of the last iteration."""
    batch: Any = engine.state.batch
    image = batch[0].get("image") if isinstance(batch, list) and batch else None
    return str(getattr(image, "meta", {}).get(WARNINGS, "")).splitlines()


class ScanError(RuntimeError):
    """A scan that could not be read."""


def labelled_scans(organs: Sequence[str], spacing: Sequence[float]) -> Compose:
    """Preprocessing of a scan that is scored: on the working grid, its label on the scan's own.

    Args:
        organs: organ names in the order of their class indices.
        spacing: of the working grid in mm, axes R-L, A-P, S-I.
    """
    return Compose(
        [
            LoadImaged("image", image_only=True, ensure_channel_first=True, reader=ScanReader),
            CheckScand("image"),
            LoadOrganLabelsd("label", organs),
            ToWorkingGridd("image", spacing),
            SelectItemsd(["image", "label", "case"]),
        ]
    )
