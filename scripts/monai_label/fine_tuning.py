"""Fine-tuning on newly labelled scans: a run of its own each time, after which the clients' weights are replaced.

MONAI Label starts the config's `run` in the bundle's folder again and again, each time with more labelled studies. So
every run gets a folder of its own, ``fine_tuning_001``, ``fine_tuning_002``, ...; only one that was stopped, and is
asked for again with the same weights, cases and settings, goes on where it was. The coarse stage is not trained.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset

from scripts.dataset.check import check_dataset, dataset_digest
from scripts.files.atomic_write import replacing, write_text
from scripts.files.result_files import digest
from scripts.inference.weights import load_weights
from scripts.queries.batches import QueryBatches
from scripts.runtime.processes import launched
from scripts.runtime.resume import save_weights
from scripts.runtime.run_folder import RunPlace, claim, record_weights
from scripts.runtime.running_config import running_config

logger = logging.getLogger(__name__)

PREFIX = "fine_tuning_"
REPORT = "fine_tuning.json"  # written last: a folder that has it holds a finished run


class FineTuning:
    """Fine-tune a predictor, from the weights of `model_path` on, by the trainer of the segmentation stage.

    `training` are the trainer's batches, of newly labelled cases; without a `validation` case the weights of the last
    epoch are kept. The trainer's handlers write to `place`, which is moved to a folder of the run inside of it.
    `published` is the file that the clients load, replaced at the end if it is `model_path`, its old content kept
    beside it. None: nothing is replaced.
    """

    def __init__(
        self,
        trainer: Engine,
        training: QueryBatches,
        validation: Dataset,
        network: torch.nn.Module,
        model_path: str,
        place: RunPlace,
        published: str | None = None,
    ) -> None:
        self.trainer, self.training, self.validation = trainer, training, validation
        self.network, self.model_path, self.place = network, Path(model_path), place
        self.parent = place.folder
        self.published = None if published is None else Path(published)

    def run(self) -> Path:
        """Check the cases, train, publish; return the folder of the run.

        ValueError: no case, cases with problems (all listed), weights that do not fit; FileNotFoundError: no weights.
        """
        splits = self._checked_splits()
        config = running_config()
        chosen = [handler["load_path"] for handler in config["train"]["handlers"] if "load_path" in handler]
        first = Path([self.model_path, *chosen][-1])  # MONAI Label's model_filename comes as a handler
        load_weights(self.network, first)
        begun = {"weights": digest(first), "cases": dataset_digest(splits, [])}
        folder = self.place.folder = begin_run(self.parent, config, begun)
        logger.info("fine-tuning %s on %d cases, in %s", first, len(splits["labelled"]), folder)
        self.trainer.run()
        weights = folder / "model.pt"
        if not weights.exists():
            logger.info("no validation case: the weights of the last epoch are the result")
            save_weights(self.network.state_dict(), weights)
        report = {
            "began_with": {"path": str(first), "sha256": begun["weights"]},
            "result": {"path": str(weights), "sha256": digest(weights)},
            "previous_weights": self._publish(weights),
            "epochs": self.trainer.state.epoch,
            "cases": {split: [case["case"] for case in cases] for split, cases in splits.items()},
        }
        write_text(folder / REPORT, json.dumps(report, indent=1))
        logger.info("fine-tuned weights: %s", weights)
        return folder

    def _checked_splits(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        if launched()[1] > 1:
            raise ValueError("fine-tuning runs in one process: start it without torchrun (MONAI Label: multi_gpu off).")
        if not self.training.data:
            raise ValueError("there is no labelled case to fine-tune on: label a scan and save its label first.")
        # Not "training": of a few new cases nobody demands that they show every organ.
        splits: dict[str, Sequence[Mapping[str, Any]]] = {"labelled": self.training.data}
        if self.validation.data:
            splits["validation"] = self.validation.data
        check_dataset(splits, self.training.store.organs)
        return splits

    def _publish(self, weights: Path) -> str | None:
        """Replace the published weights, if these were fine-tuned; return where the old ones are kept."""
        if self.published is None or not (self.published.exists() and self.published.samefile(self.model_path)):
            return None
        previous = replace_weights(weights, self.published)
        logger.info("%s has the new weights, the old ones are kept in %s", self.published, previous)
        return str(previous)


def begin_run(parent: Path, config: Mapping[str, Any], begun: Mapping[str, str]) -> Path:
    """Folder of a run below `parent`: the last one, if it is unfinished and was begun with the same, else a new one.

    `config` is that of the running workflow, `begun` has the digests of weights and cases.
    """
    names = (path.name.removeprefix(PREFIX) for path in parent.glob(f"{PREFIX}*"))
    last = max((int(name) for name in names if name.isdecimal()), default=0)
    folder = parent / f"{PREFIX}{last:03d}"
    if last and not (folder / REPORT).exists():
        try:
            return claim(folder, config, begun)
        except ValueError:
            logger.info("%s was stopped and is left as it is: weights, cases or settings are others now", folder)
    return claim(parent / f"{PREFIX}{last + 1:03d}", config, begun)


def replace_weights(new: Path, target: Path) -> Path:
    """Put weights in the place of others, which are kept beside it as ``model_until_<UTC time>.pt``; return that path.

    The name is longer than the target's, since MONAI Label takes the shortest for the default.
    """
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d_%H-%M-%S")
    kept = target.with_name(f"{target.stem}_until_{now}{target.suffix}")
    while kept.exists():  # twice in a second: nothing is ever overwritten
        kept = kept.with_stem(f"{kept.stem}_again")
    with replacing(kept) as temporary:
        shutil.copyfile(target, temporary)
    with replacing(target) as temporary:
        shutil.copyfile(new, temporary)
        record_weights(target, temporary)
    return kept
