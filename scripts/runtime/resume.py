"""Checkpoints: a stage that is killed goes on from its last epoch, a stage that is done is not run again."""

import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from scripts.files.atomic_write import replacing
from scripts.runtime.processes import broadcast_buffers, is_first_process, unwrap, world_size
from scripts.runtime.run_folder import RunPlace, apart_from_place, placed, record_weights

logger = logging.getLogger(__name__)

CLOCKS = {"seconds": time.monotonic, "core_seconds": time.process_time}
"""What a checkpoint holds of the time that its stage took."""


def save_atomically(content: Any, path: str | Path) -> None:
    """torch.save, whole or not at all: a kill or a full disk leaves the old file, never half of a new one.

    The same content gives the same bytes: to an open file PyTorch does not write the file's name.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def save_weights(state: Mapping[str, Any], path: str | Path) -> None:
    """Save the result of a run, with its checksum in the manifest of the folder."""
    with replacing(path) as temporary:
        save_atomically(state, temporary)
        record_weights(Path(path), temporary)


def load_checkpoint(path: str | Path, remedy: str = "copy or download it again") -> dict[str, Any]:
    """Load a checkpoint to the CPU; ValueError if it is damaged, or holds anything but tensors and plain values."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}); {remedy}.") from error
    except Exception as error:  # pickle.UnpicklingError and its relatives, whose text names the forbidden class
        with open(path, "rb") as file:
            start = file.read(40)
        if not start.startswith((b"PK", b"\x80")):  # neither of torch.save's formats
            begins = f"{path} is not a readable checkpoint, it begins with {start!r}"
            raise ValueError(f"{begins}: an error page or a Git LFS pointer has to be downloaded again.") from error
        # PyTorch's text advises to load such a file all the same; only this line of it says what is in the file.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0].partition("\n")[0]
        raise ValueError(f"{path} was refused, it holds more than weights: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, a checkpoint is a dictionary of tensors.")
    return content


def peak_memory_mib() -> float:
    """Largest memory that this process has held, in MiB: on the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return float("nan")  # the resource module is POSIX only
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB elsewhere


class Resume:
    """Handler of a trainer: save everything the stage needs after each epoch, start from it next time.

    Put it last among the handlers, so that it saves after the learning-rate step and the validation. The objects have a
    state_dict. The path is relative to the place; None for the current folder.
    """

    def __init__(self, path: str, objects: Mapping[str, Any], place: RunPlace | None = None) -> None:
        self.file, self.place, self.objects = path, place, dict(objects)
        self.began, self.before = dict.fromkeys(CLOCKS, 0.0), dict.fromkeys(CLOCKS, 0.0)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def restore(self, engine: Engine) -> None:
        """Load the checkpoint if there is one."""
        self.began, path = {name: clock() for name, clock in CLOCKS.items()}, placed(self.file, self.place)
        if path.exists():
            content = load_checkpoint(path, remedy="delete it to start again")
            self.before = {name: float(content.get(name, 0.0)) for name in CLOCKS}
            for name, item in self.objects.items():
                unwrap(item).load_state_dict(content[name])
            engine.state.epoch = int(content["epoch"])
            engine.state.iteration = engine.state.epoch * int(engine.state.epoch_length or 0)
            done = engine.state.epoch >= int(engine.state.max_epochs or 0)
            word = "done before, skipped" if done else f"resumed after epoch {engine.state.epoch}"
            logger.info("%s: %s (%s)", path.stem, word, path)

    def save(self, engine: Engine) -> None:
        """Write the checkpoint; with several processes the first one does."""
        for item in self.objects.values():
            broadcast_buffers(item)
        if is_first_process():
            content = {name: unwrap(item).state_dict() for name, item in self.objects.items()}
            costs = {name: self.before[name] + clock() - self.began[name] for name, clock in CLOCKS.items()}
            costs["peak_mib"] = peak_memory_mib()
            save_atomically({"epoch": engine.state.epoch, **costs, **content}, placed(self.file, self.place))


class BestModel:
    """Handler of the validation engine: keep the weights with the highest key metric; `path` is relative to `place`.

    The highest on other validation cases does not count: a run may go on with more of them, or fewer.
    """

    def __init__(self, path: str, network: torch.nn.Module, place: RunPlace | None = None) -> None:
        self.file, self.place, self.network = path, place, network
        self.best, self.cases = float("-inf"), list[int | str]()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator that has a key metric."""
        engine.add_event_handler(Events.COMPLETED, self.keep)

    def keep(self, engine: Engine) -> None:
        """Write the weights if the validation was the best so far."""
        name, path = engine.state.key_metric_name, placed(self.file, self.place)  # type: ignore[attr-defined]
        value = float(engine.state.metrics[name])
        data = getattr(getattr(engine.state.dataloader, "dataset", None), "data", ())
        told = (str([key, apart_from_place(value)]) for case in data for key, value in case.items())
        cases: list[int | str] = [world_size(), *told]
        if self.cases[:1] == cases[:1] and self.cases != cases:  # each of another number of processes has others
            logger.warning("validation: the cases are others than before, with which the best so far does not compare")
            self.best = float("-inf")
        self.cases = cases
        best = "the first" if math.isinf(self.best) else f"best before {self.best:.4f}"
        logger.info("validation: %s %.4f (%s)", name, value, best)
        if math.isnan(value):
            logger.warning("validation: %s is not a number; are the validation cases contoured for any organ?", name)
        # Even without a number a run has to end with weights.
        if value > self.best or (math.isnan(value) and not path.exists()):
            self.best = max(self.best, value)
            if is_first_process():
                save_weights(self.network.state_dict(), path)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best": self.best, "cases": self.cases}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.best, self.cases = float(state["best"]), list(state.get("cases", ()))
