"""The command `python -m development.study broken`: how well scans broken on purpose are told from intact ones.

    python -m development.study broken docs/results/openkbp/signs.jsonl.xz
    python -m development.study broken runs/signs.jsonl --dataset_dir DATASET --run_dir runs/mine --other SCANS

The limits are fitted to the intact training scans. Held-out scans are those of validation; the other part of the body
is a folder of scans. Training scans are judged by limits that are fitted to other ones, in ten folds. `--wider` shows
what comes of limits that are widened until 98 % of further training scans keep within. With a data set the signs that
the file lacks are measured first and appended to it.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from development.phantom.tissues import HOUNSFIELD_AIR
from development.study.quality import auroc
from scripts.dataset.datalists import load_cases
from scripts.dataset.inference_inputs import scan_inputs
from scripts.evaluation.intervals import SEED
from scripts.evaluation.plausibility import QUANTILE, excess_of, fit
from scripts.evaluation.quality import EstimateQualityd
from scripts.evaluation.score_tables import markdown_table
from scripts.inference.weights import WeightsLoader
from scripts.outputs.scan_outputs import SIGNS
from scripts.preprocessing.scan_reader import load_volume
from scripts.preprocessing.working_grid import ToWorkingGrid
from scripts.runtime.plain_errors import command_parser
from scripts.segment.workflow import inference_workflow

KINDS = ("upside down", "prone", "mirrored", "HU + 1024", "heavy noise", "a quarter blank")
OFFSET, NOISE = 1024.0, 200.0
"""HU; the noise is the standard deviation of a voxel of the working grid. Our choice."""
AIR, ROOM = -900.0, 6
"""HU below which a voxel is outside of the body, and voxels of air that are kept around it."""
TRAINING, INTACT, OTHER = "training", "intact", "another part of the body"
RESAMPLES, FOLDS = 1000, 10
Row = dict[str, Any]


def without_air(image: MetaTensor) -> MetaTensor:
    """A scan [1, x, y, z] without most of the air at its sides, which takes time and has no organs."""
    inside, box = (image[0] > AIR).any(dim=2), []
    for axis in (0, 1):
        places = inside.any(dim=1 - axis).nonzero()[:, 0].tolist() or [0]
        box.append(slice(max(0, places[0] - ROOM), places[-1] + ROOM + 1))
    return MetaTensor(image.as_tensor()[:, box[0], box[1]].contiguous(), affine=image.affine)


def broken(image: Tensor, kind: str, seed: int = 0) -> Tensor:
    """Break a scan [1, x, y, z].

    Upside down and mirrored are reversed along one axis, so that left and right change as well; prone is turned by
    180 degrees about the axis of the body. The blank quarter are neighbouring slices of air, anywhere in the scan.
    """
    random = torch.Generator().manual_seed(seed)
    if kind == "upside down":
        return image.flip(3)
    if kind == "prone":
        return image.flip(1, 2)
    if kind == "mirrored":
        return image.flip(1)
    if kind == "HU + 1024":
        return image + OFFSET
    if kind == "heavy noise":
        return image + NOISE * torch.randn(image.shape, generator=random)
    if kind == "a quarter blank":
        count = -(-image.shape[3] // 4)
        first = int(torch.randint(image.shape[3] - count + 1, (), generator=random))
        spoilt = image.clone()
        spoilt[..., first : first + count] = HOUNSFIELD_AIR
        return spoilt
    raise ValueError(f"kind '{kind}' is unknown: give one of {', '.join(KINDS)}.")


class Measuring:
    """Signs of scans, intact or broken, with the network of a run or of the bundle."""

    def __init__(self, run_dir: str | None) -> None:
        part = inference_workflow(run_dir=run_dir, device="cpu").parser.get_parsed_content
        WeightsLoader(part("model_path"), part("network")).load()
        self.network, self.inferer = part("network").eval(), part("inferer")
        self.note, self.organs = EstimateQualityd("pred", part("organs")), list(part("organs"))
        self.grid = ToWorkingGrid(part("spacing"))

    @torch.no_grad()
    def __call__(self, path: str, kind: str, seed: int) -> dict[str, Any]:
        """Signs of a scan; the seed is that of the break."""
        image = without_air(self.grid(load_volume(path)))
        voxels = broken(image.as_tensor(), kind, seed) if kind in KINDS else image.as_tensor()
        scores = self.inferer(voxels[None], self.network)[0]
        item = self.note({"image": MetaTensor(voxels, affine=image.affine), "pred": scores})
        signs: dict[str, Any] = item[SIGNS]
        return signs


def jobs(dataset_dir: str, organs: Sequence[str], other: str | None, count: int) -> Iterator[tuple[str, str, str, int]]:
    """Case, path, kind and seed of what is measured."""
    training, held_out = ([(str(case["case"]), str(case["image"])) for case in load_cases(dataset_dir, split, organs)]
                          for split in ("training", "validation"))  # fmt: skip
    yield from ((case, path, INTACT, 0) for case, path in held_out)
    yield from ((case, path, TRAINING, 0) for case, path in training)
    yield from ((str(case["case"]), str(case["image"]), OTHER, 0) for case in (scan_inputs(other) if other else ()))
    yield from ((case, path, kind, seed) for seed, (case, path) in enumerate(held_out[:count]) for kind in KINDS)


def read_rows(path: Path) -> list[Row]:
    """Measured scans: `case`, `kind`, `signs`."""
    text = lzma.open(path, "rt").read() if path.suffix == ".xz" else path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def highest(rows: Sequence[Row], plausible: dict[str, Any]) -> NDArray[np.float64]:
    """The highest distance of each scan, in limits: above 1 it is warned about."""
    return np.array([max(excess_of(row["signs"], plausible).values()) for row in rows])


def crossed(rows: Sequence[Row], wider: bool = False) -> NDArray[np.float64]:
    """The highest distance of each training scan, in limits (or wider ones) fitted to the scans of the other folds."""
    distances = np.zeros(len(rows))
    for fold in range(FOLDS):
        others = [row for number, row in enumerate(rows) if number % FOLDS != fold]
        limits = fit([row["signs"] for row in others])
        distances[fold::FOLDS] = highest(rows[fold::FOLDS], limits) / (widening(others) if wider else 1.0)
    return distances


def widening(rows: Sequence[Row]) -> float:
    """Factor by which limits have to grow, so that of further training scans 98 % keep within (split conformal)."""
    within = np.sort(crossed(rows))
    return max(1.0, float(within[min(len(within), math.ceil(QUANTILE * (len(within) + 1))) - 1]))


def table_rows(rows: Sequence[Row], plausible: dict[str, Any], wider: bool = False) -> list[list[str]]:
    """For each kind: scans, AUROC with its bootstrap interval, and the share of scans that are warned about."""
    rng, of_kind = np.random.default_rng(SEED), dict[str, list[Row]]()
    for row in rows:
        of_kind.setdefault(row["kind"], []).append(row)
    training = of_kind.pop(TRAINING)
    factor = widening(training) if wider else 1.0
    distances = {kind: highest(scans, plausible) / factor for kind, scans in of_kind.items()}
    distances[TRAINING] = crossed(training, wider)
    good, cells = distances[INTACT], []
    for kind, bad in distances.items():
        draws = [auroc(rng.choice(bad, len(bad)), rng.choice(good, len(good))) for _ in range(RESAMPLES)]
        low, high = np.percentile(draws, [2.5, 97.5])
        warned = binomtest(int((bad > 1).sum()), len(bad))
        ends = warned.proportion_ci(method="wilson")
        ranks = "-" if kind in (INTACT, TRAINING) else f"{auroc(bad, good):.3f} ({low:.3f} to {high:.3f})"
        share = f"{warned.statistic:.1%} ({ends.low:.1%} to {ends.high:.1%})"
        cells.append([kind, str(len(bad)), ranks, share])
    return cells


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = command_parser("development.study broken", __doc__)
    parser.add_argument("signs", type=Path, help="file of measured signs, JSON lines (.xz: only read)")
    parser.add_argument("--dataset_dir", help="with dataset.json; measure what the file lacks")
    parser.add_argument("--run_dir", help="folder of a training (default: the weights of the bundle)")
    parser.add_argument("--other", help="folder of scans of another part of the body")
    parser.add_argument("--scans", type=int, default=25, help="held-out scans that are broken (default: %(default)s)")
    parser.add_argument("--wider", action="store_true", help="widen the limits by what training scans say")
    options = parser.parse_args(arguments)
    if options.dataset_dir and options.signs.suffix == ".xz":
        parser.error(f"{options.signs} is only read: unpack it, to add to it")
    rows = read_rows(options.signs)
    if options.dataset_dir:
        measure, known = Measuring(options.run_dir), {(row["case"], row["kind"]) for row in rows}
        for case, path, kind, seed in jobs(options.dataset_dir, measure.organs, options.other, options.scans):
            if (case, kind) not in known:
                rows.append({"case": case, "kind": kind, "signs": measure(path, kind, seed)})
                with options.signs.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    plausible = fit([row["signs"] for row in rows if row["kind"] == TRAINING])
    cells = table_rows(rows, plausible, options.wider)
    print(markdown_table(["scans", "number", "AUROC against intact", "warned about"], cells))
    return 0
