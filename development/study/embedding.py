"""How well the embedded queries of held-out scans tell their organs apart, with and without contrast.

    python -m development.study probe docs/results/btcv_embedding/probe.csv.xz
    python -m development.study probe runs/probe.csv --dataset_dir DATASET --run_dir runs/mine

A linear classifier of the organ is fitted to the pooled output of the encoder for queries of the training cases, and
asked about those of the validation cases. Encoders are at random, that of the contrastive stage, and the fine-tuned
one. Queries are given whole, without their attention, or without their image. With a run its answers are appended to
the table first; `--fold` numbers it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import normalize

from development.study.composition import ROOT
from scripts.evaluation.intervals import SEED
from scripts.evaluation.score_tables import markdown_table
from scripts.inference.weights import load_weights
from scripts.queries.batches import QueryBatches
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.composition import trained_config
from scripts.runtime.plain_errors import command_parser
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.streams import Batch

OF_TRAINING, OF_SCAN = 60, 12
"""Queries of each organ: of all training cases, and of the scan that is compared with them."""
FAR = 1e3
"""Every coordinate of the mean of a class without queries."""
GIVEN = {"image and attention": slice(0, 0), "image": slice(-1, None), "attention": slice(None, -1)}
"""What an encoder sees of a query, and the channels that are made 0."""
RESAMPLES = 1000
CONFUSED = 3
"""Most frequent confusions that are printed."""


def open_run(dataset_dir: str, run_dir: str) -> Any:
    """What the config of a training names, by id, on the CPU, with its weights and all validation cases."""
    places = {"bundle_root": str(ROOT), "dataset_dir": dataset_dir, "output_dir": run_dir}
    whole = {"validation_limit": None, "device": torch.device("cpu")}
    get = ConfigParser({**trained_config(run_dir), **places, **whole}).get_parsed_content
    load_weights(get("network").eval(), get("model_path"))
    return get


def maps_in(get: Any, folder: str | Path) -> CoarseMaps:
    """Coarse maps of other cases than those of training, in a folder."""
    return CoarseMaps(get("slice_store"), get("coarse_segmenter"), get("window"), str(folder))


def plain_batch(
    get: Any, cases: Sequence[Mapping[str, Any]], maps: CoarseMaps, count: int, present_only: bool = False
) -> Batch:
    """Queries of cases without augmentation; organs take turns."""
    planner, attention, neighbours = (get(name) for name in ("query_planner", "attention", "adjacent_slices"))
    stream = QueryBatches(cases, maps, planner, attention, count, adjacent_slices=neighbours, present_only=present_only)
    return stream.batch(0, torch.Generator().manual_seed(0))


class ClassDistances:
    """How far the embedded queries of a scan lie from the means of the classes of a run's training cases.

    A query without its organ is of the background class. An embedding is the pooled output of the encoder, without the
    projection head: that of the contrastive stage, and the fine-tuned one.
    """

    def __init__(self, get: Any) -> None:
        self.get, network = get, get("network")
        self.encoders = {"fine_tuned": network.segmenter.encoder}
        if (checkpoint := Path(get("output_dir")) / "contrastive.pt").is_file():
            before, state = copy.deepcopy(network.segmenter.encoder), load_checkpoint(checkpoint)["network"]
            before.load_state_dict({key[8:]: value for key, value in state.items() if key.startswith("encoder.")})
            self.encoders["contrastive"] = before.eval()
        self.views, self.classes, _ = self._queries(get("train_cases"), get("coarse_maps"), OF_TRAINING)

    @cached_property
    def means(self) -> dict[str, Tensor]:
        """Means of the classes in training, by encoder."""
        return {name: self._means(self.embed(name, self.views), self.classes) for name in self.encoders}

    def __call__(self, case: Mapping[str, Any]) -> dict[int, dict[str, float]]:
        """Signals by class index, higher for better: nearness of the class, and how much farther others are."""
        views, _, organs = self.queries_of(case)
        signals: dict[int, dict[str, float]] = {int(organ): {} for organ in organs.unique()}
        for name, means in self.means.items():
            distances = torch.cdist(self.embed(name, views), means)
            for organ, row in signals.items():
                own, to_all = distances[organs == organ, organ], distances[organs == organ]
                row[f"{name}_to_class"] = -float(own.mean())
                row[f"{name}_class_or_background"] = float((to_all[:, 0] - own).mean())
                to_others = to_all[:, [index for index in range(1, len(means)) if index != organ]]
                row[f"{name}_class_or_other_organ"] = float((to_others.amin(dim=1) - own).mean())
        return signals

    def queries_of(self, case: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Plain views of queries of a held-out scan, their classes (0: the organ is not there), and their organs."""
        with TemporaryDirectory() as folder:
            return self._queries([case], maps_in(self.get, folder), OF_SCAN)

    def _queries(
        self, cases: Sequence[Mapping[str, Any]], maps: CoarseMaps, each: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Plain views of as many queries of each organ, their classes (0: the organ is not there), and their organs."""
        batch = plain_batch(self.get, cases, maps, each * len(self.get("organs")))
        present = (batch["label"] == 1).any(dim=3).any(dim=2)[:, 0]
        return batch["image"], batch["organ"] * present, batch["organ"]

    @torch.no_grad()
    def embed(self, name: str, views: Tensor) -> Tensor:
        """Embeddings [view, dim] of norm 1 by an encoder."""
        encoder = self.encoders[name]
        return torch.cat([normalize(encoder(part)[-1].mean(dim=(2, 3)).float(), dim=1) for part in views.split(64)])

    def _means(self, points: Tensor, classes: Tensor) -> Tensor:
        """Mean of each class [class, dim]; far from everything if the class has no point."""
        means = [points[classes == index].mean(dim=0) for index in range(1 + len(self.get("organs")))]
        return torch.stack(means).nan_to_num(nan=FAR)


def at_random(encoder: nn.Module) -> nn.Module:
    """A copy of an encoder with new random weights (PyTorch's draw; a training begins with those of MONAI)."""
    fresh = copy.deepcopy(encoder)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return fresh.eval()


def probed(get: Any) -> Iterator[dict[str, Any]]:
    """Answers for queries of the validation cases whose organ is there: case, encoder, given, organ, found."""
    space, names = ClassDistances(get), ["background", *get("organs")]
    space.encoders["random"] = at_random(space.encoders["fine_tuned"])
    unseen = [(case["case"], *space.queries_of(case)[:2]) for case in get("validation_cases")]
    for encoder in space.encoders:
        for given, hidden in GIVEN.items():
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            there = space.classes > 0
            classifier.fit(space.embed(encoder, blanked(space.views[there], hidden)).numpy(), space.classes[there])
            for case, views, classes in unseen:
                there = classes > 0
                found = classifier.predict(space.embed(encoder, blanked(views[there], hidden)).numpy())
                for truth, answer in zip(classes[there].tolist(), found.tolist(), strict=True):
                    row = {"case": case, "encoder": encoder, "given": given}
                    yield {**row, "organ": names[truth], "found": names[answer]}


def blanked(views: Tensor, channels: slice) -> Tensor:
    """Views [view, channel, x, y] with some channels made 0."""
    shown = views.clone()
    shown[:, channels] = 0
    return shown


def table_rows(frame: pd.DataFrame) -> list[list[str]]:
    """For each encoder and what it was given: queries, share of right answers (mean over organs), confusions.

    The interval is a bootstrap over patients.
    """
    rng, rows = np.random.default_rng(SEED), []
    for (encoder, given), part in frame.groupby(["encoder", "given"], sort=False):
        right = (part["organ"] == part["found"]).groupby([part["case"], part["organ"]]).agg(["sum", "size"])
        sums, sizes = (right[name].unstack(fill_value=0).to_numpy(float) for name in ("sum", "size"))
        draws = [
            mean_share(sums[chosen], sizes[chosen]) for chosen in rng.integers(0, len(sums), (RESAMPLES, len(sums)))
        ]
        low, high = np.percentile(draws, [2.5, 97.5])
        wrong = part[part["organ"] != part["found"]]
        pairs = Counter(zip(wrong["organ"], wrong["found"], strict=True)).most_common(CONFUSED)
        most = ", ".join(f"{organ} as {found} {count}" for (organ, found), count in pairs)
        share = f"{mean_share(sums, sizes):.3f} ({low:.3f} to {high:.3f})"
        rows.append([str(encoder), str(given), str(len(part)), share, most.replace("_", " ")])
    return rows


def mean_share(right: NDArray[np.float64], queries: NDArray[np.float64]) -> float:
    """Share of right answers, the mean over organs, of counts [patient, organ]."""
    asked = queries.sum(axis=0) > 0
    return float((right.sum(axis=0)[asked] / queries.sum(axis=0)[asked]).mean())


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = command_parser("development.study probe", __doc__)
    parser.add_argument("table", type=Path, help="CSV of answers (.xz: only read)")
    parser.add_argument("--dataset_dir", help="with dataset.json, for --run_dir")
    parser.add_argument("--run_dir", help="folder of a training; append its answers first")
    parser.add_argument("--name", default="fine_tuned", help="of its encoder in the table (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.run_dir:
        rows = pd.DataFrame(probed(open_run(options.dataset_dir, options.run_dir)))
        rows["encoder"] = rows["encoder"].replace("fine_tuned", options.name)
        if options.table.exists():
            rows = rows.reindex(columns=pd.read_csv(options.table, nrows=0).columns)
        rows.to_csv(options.table, mode="a", header=not options.table.exists(), index=False)
    columns = ["encoder", "given", "queries", "right, mean over organs", "most confused"]
    print(markdown_table(columns, table_rows(pd.read_csv(options.table))))
    return 0
