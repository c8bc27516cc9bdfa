"""How far a label map can be trusted: an estimate of each organ's Dice from the class scores.

The soft Dice of an organ's voxels with its scores tells good from bad results, but is too high. A calibration turns it
into a Dice. It is fitted to scored scans that the weights were not trained on, and counts for these weights alone:

    python -m scripts.evaluation.quality runs/mine/evaluation --model_path runs/mine/model.pt

With `--training_scans`, a folder of segmented training scans with their statistics (`save_statistics`), scans that are
unlike these are warned about (:mod:`scripts.evaluation.plausibility`).
"""

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy.optimize import isotonic_regression
from torch import Tensor

from scripts.dataset.datalist_file import read_json
from scripts.evaluation.plausibility import fit as fit_limits
from scripts.evaluation.plausibility import signs_of, warning_of
from scripts.files.atomic_write import write_text
from scripts.files.result_files import SUFFIXES, digest, read_manifest, weights_digest
from scripts.outputs.scan_outputs import COMPARED, RESULT, SIGNS, scan_name
from scripts.preprocessing.scan_reader import WARNINGS
from scripts.runtime.plain_errors import command_parser

logger = logging.getLogger(__name__)

CALIBRATION = "quality.json"
GROUPS, PRIOR = 8, 5  # means of groups are the knots; results at offset 0 that an organ begins with. Our choice


def soft_dice(scores: Tensor, winners: Tensor | None = None) -> list[float]:
    """Soft Dice of each organ by class scores [class, x, y, z]: 2 * scores in its voxels / (its voxels + all scores).

    A voxel is of the class with the highest score. Example: of .9, .6 and .2 the first two win: 2 * 1.5 / (2 + 1.7).
    """
    labels = scores.max(dim=0).indices if winners is None else winners  # argmax takes ten times as long
    values = []
    for index in range(1, len(scores)):
        own, score = labels == index, scores[index]
        both = own.sum() + score.sum(dtype=torch.float32)
        values.append(float(2 * score[own].sum(dtype=torch.float32) / both.clamp(min=1e-6)))
    return values


class EstimateQualityd(MapTransform):
    """Note `soft_dice` of each organ found and, with a calibration beside the weights, `estimated_dice`, in `RESULT`.

    With all `classes`, a scan whose `SIGNS` are unlike those of training is warned of in log, meta data and `RESULT`.

    `keys` are class scores, which stay as they are, `organs` the names of their classes 1, 2, ...
    """

    def __init__(
        self,
        keys: KeysCollection,
        organs: Sequence[str],
        model_path: str | Sequence[str] = (),
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(keys)
        self.organs, self._model_path = list(organs), model_path
        self.wanted = [name for index, name in enumerate(self.organs, start=1) if classes is None or index in classes]
        self.check_scan = self.wanted == self.organs
        beside = Path(model_path).with_name(CALIBRATION) if isinstance(model_path, str) else Path()
        if beside.is_file():
            self.calibration = digest(beside)  # a setting: what was estimated by another one is estimated again

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure the scores under the keys."""
        noted = dict(data)
        calibration = calibration_of(Path(self._model_path)) if isinstance(self._model_path, str) else {}
        for key in self.key_iterator(noted):
            scores = torch.as_tensor(noted[key]).detach()
            labels = scores.max(dim=0).indices
            values = dict(zip(self.organs, soft_dice(scores, labels), strict=True))
            found = {organ: value for organ, value in values.items() if value > 0 and organ in self.wanted}
            noted[RESULT] = {**noted.get(RESULT, {}), "soft_dice": found}
            if self.check_scan:
                noted[SIGNS] = signs_of(noted["image"], labels, values)
                plausible = calibration.get("plausible")
                noted[COMPARED] = bool(plausible)
                if plausible and (finding := warning_of(noted[SIGNS], plausible)):
                    line, meta = f"{scan_name(noted)}: {finding}", noted["image"].meta
                    meta[WARNINGS] = "\n".join([*str(meta.get(WARNINGS, "")).splitlines(), line])
                    noted[RESULT]["warnings"] = [line]
                    logger.warning(line)
            if "soft_dice" in calibration:
                estimates = estimate(calibration, list(found), list(found.values()))
                noted[RESULT]["estimated_dice"] = dict(zip(found, estimates, strict=True))
        return noted


def calibration_of(weights: Path) -> dict[str, Any]:
    """What was fitted for weights; empty if it was for others."""
    path = weights.parent / CALIBRATION
    content: dict[str, Any] = read_json(str(path), "calibration") if weights.is_file() and path.is_file() else {}
    return content if content and content.get("weights_sha256") == weights_digest(weights) else {}


def fit(organs: Sequence[str], signal: Sequence[float], dice: Sequence[float]) -> dict[str, Any]:
    """Fit an ascending line from soft Dice to Dice, and by how much each organ lies above it."""
    x, y = np.asarray(signal), np.asarray(dice)
    groups = np.array_split(np.argsort(x, kind="stable"), GROUPS)
    means = isotonic_regression([y[group].mean() for group in groups], weights=[len(group) for group in groups]).x
    knots = {"soft_dice": [0.0, *(x[group].mean() for group in groups), 1.0], "dice": [0.0, *means, 1.0]}
    above = pd.Series(y - estimate(knots, organs, signal)).groupby(list(organs))
    return knots | {"organs": (above.sum() / (above.size() + PRIOR)).to_dict()}


def estimate(calibration: Mapping[str, Any], organs: Sequence[str], signal: Sequence[float]) -> list[float]:
    """Estimated Dice of results, each of an organ with a soft Dice."""
    offsets = [calibration.get("organs", {}).get(organ, 0.0) for organ in organs]
    line = np.interp(signal, calibration["soft_dice"], calibration["dice"])
    return [float(value) for value in np.clip(line + offsets, 0, 1)]


def read_signals(folders: Sequence[str]) -> pd.DataFrame:
    """Organs found in evaluated scans, a row each: `case`, `organ`, `dice`, `soft_dice` and more."""
    files = [file for folder in folders for file in sorted(Path(folder).glob(f"*{SUFFIXES['case_scores']}"))]
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    found = [row for row in rows if row["prediction_ml"] > 0 and row.get("soft_dice") is not None]
    if len(found) < GROUPS:
        few = f"the soft Dice of {len(found)} results, at least {GROUPS} are needed"
        raise ValueError(f"{folders} have {few}: give output folders of the evaluate workflow of this version.")
    return pd.DataFrame(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the calibration of weights to evaluations with them, and the limits of scans to those that they saw."""
    parser = command_parser("scripts.evaluation.quality", __doc__)
    parser.add_argument("evaluations", nargs="*", help="output folders of the evaluate workflow with these weights")
    parser.add_argument("--model_path", type=Path, required=True, help="the weights; quality.json goes beside them")
    parser.add_argument("--training_scans", type=Path, help="output folder of inference on them with save_statistics")
    given = parser.parse_args(arguments)
    path, said = given.model_path.with_name(CALIBRATION), []
    if not (given.evaluations or given.training_scans):
        parser.error("nothing to fit: give output folders of evaluations, or --training_scans")
    weights = weights_digest(given.model_path)
    of_whom = read_json(str(path), "calibration").get("weights_sha256") if path.is_file() else weights
    beside = [file for file in path.parent.glob("*.pt") if "_until_" not in file.name]  # what fine-tuning has replaced
    if of_whom != weights and any(weights_digest(file) == of_whom for file in beside):
        raise ValueError(f"{path} is of other weights in this folder: delete it, or move {given.model_path} away.")
    for folder in filter(None, [*given.evaluations, given.training_scans]):
        for case, entry in read_manifest(folder).get("cases", {}).items():
            if [*entry["weights_sha256"].values()] != [weights]:
                raise ValueError(f"{folder}: {case} was segmented with other weights than {given.model_path}.")
    content = {**calibration_of(given.model_path), "weights_sha256": weights}
    if given.evaluations:
        frame = read_signals(given.evaluations)
        content |= fit(*(frame[name].tolist() for name in ("organ", "soft_dice", "dice")))
        said += [f"estimates from {len(frame)} results in {frame['case'].nunique()} scans"]
    if given.training_scans:
        files = sorted(given.training_scans.glob(f"*{SUFFIXES['statistics']}"))
        signs = [json.loads(file.read_text("utf-8"))["signs"] for file in files]
        content["plausible"] = fit_limits(list(filter(None, signs)))  # measured with all organs only
        said += [f"limits from {len(files)} scans"]
    write_text(path, json.dumps(content) + "\n")
    print(f"{path}: {', '.join(said)}")


if __name__ == "__main__":
    main()
