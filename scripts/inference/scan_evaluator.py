"""Inference over many scans: progress per scan, one bad scan does not stop the others, and the exit status tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from tqdm import tqdm

from scripts.plain_errors import root_cause
from scripts.preprocessing.slice_store import case_name

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
            return {"case": case_name(case), "failure": describe(error)}


def describe(error: BaseException) -> str:
    """The first error of a chain: MONAI wraps what a transform raised in its own traceback text."""
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

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Go through all scans."""
        self.failures = {}
        with tqdm(total=self.state.epoch_length, desc="scans", unit="scan") as self.bar:
            super().run(global_epoch=global_epoch)
        if self.failures:
            lines = "\n".join(f"  {name}: {reason}" for name, reason in self.failures.items())
            raise SystemExit(f"{len(self.failures)} of {self.state.epoch_length} scans failed:\n{lines}")

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, Any]:
        name = str(batchdata["case"][0])
        self.bar.set_postfix_str(name)
        output: dict[str, Any] = {}
        try:
            if "failure" in batchdata:
                raise ScanError(batchdata["failure"][0])
            output = super()._iteration(engine, batchdata)  # type: ignore[arg-type]
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


class ScanError(RuntimeError):
    """A scan that could not be read."""
