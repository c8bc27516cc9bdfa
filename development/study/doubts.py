"""Contours broken on purpose: how well their doubt tells them from the others, and how often the kind is right.

    python -m development.study.doubts --dataset_dir OPENKBP

Every contour of the split that no rule doubts is broken in each way; the negatives are all contours as they are. The
maps are those of `scripts.dataset_report.doubts`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from development.study.quality import auroc
from scripts.coarse.doubts import DOUBTED, UNSURE, Doubt, Fit, doubt_of, fit_of, fits_of, medians_of, sums_of
from scripts.dataset.datalists import load_cases
from scripts.dataset_report.doubts import maps_by_split
from scripts.evaluation.score_tables import markdown_table
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.plain_errors import install_plain_errors

SEED = 0
Break = Callable[["Intact", np.random.Generator], Tensor | None]


class Intact(NamedTuple):
    """A contour [slice, x, y], its label map and class index, the organs, and the size of a voxel z, x, y in mm."""

    contour: Tensor
    label: Tensor
    organ: int
    organs: Sequence[str]
    mm: tuple[float, ...]


def displaced(mm: float) -> Break:
    """Move a contour in a direction at random."""

    def move(intact: Intact, rng: np.random.Generator) -> Tensor:
        direction = rng.normal(size=3)
        steps = torch.from_numpy(np.rint(mm * direction / np.linalg.norm(direction) / intact.mm).astype(int))
        voxels, moved = torch.nonzero(intact.contour) + steps, torch.zeros_like(intact.contour)
        inside = (voxels >= 0).all(1) & (voxels < torch.tensor(moved.shape)).all(1)
        moved[voxels[inside].unbind(1)] = True
        return moved

    return move


def truncated(kept: float) -> Break:
    """Keep a share of the slices, at an end at random."""

    def cut(intact: Intact, rng: np.random.Generator) -> Tensor:
        slices = torch.nonzero(intact.contour.flatten(1).any(1))[:, 0]
        count = max(1, round(kept * len(slices)))
        chosen = slices[:count] if rng.random() < 0.5 else slices[-count:]
        broken = torch.zeros_like(intact.contour)
        broken[chosen] = intact.contour[chosen]
        return broken

    return cut


def grown(mm: float, shell: bool = False) -> Break:
    """Add a margin on all sides; a shell is the margin alone."""

    def grow(intact: Intact, rng: np.random.Generator) -> Tensor:
        (box,) = ndimage.find_objects(intact.contour.numpy().astype(np.int8))
        wide = tuple(slice(max(0, side.start - int(mm)), side.stop + int(mm)) for side in box)
        distance = ndimage.distance_transform_edt(~intact.contour[wide].numpy(), sampling=intact.mm)
        larger = torch.zeros_like(intact.contour)
        larger[wide] = torch.from_numpy((distance <= mm) & (distance > 0 if shell else True))
        return larger

    return grow


def exchanged(intact: Intact, rng: np.random.Generator) -> Tensor | None:
    """Take the contour of the same organ on the other side."""
    name = intact.organs[intact.organ - 1]
    other = name.replace("left", "?").replace("right", "left").replace("?", "right")
    return intact.label == intact.organs.index(other) + 1 if other != name and other in intact.organs else None


def renamed(intact: Intact, rng: np.random.Generator) -> Tensor | None:
    """Take the contour of another organ, but not of the other side."""
    side = exchanged(intact, rng)
    present = [int(value) for value in intact.label.unique() if 0 < value != intact.organ]
    others = [value for value in present if side is None or not torch.equal(intact.label == value, side)]
    return intact.label == int(rng.choice(others)) if others else None


BREAKS: dict[str, tuple[str, Break]] = {
    **{f"displaced {mm} mm": ("displaced", displaced(mm)) for mm in (6, 12, 21, 30)},
    "truncated to one half": ("truncated", truncated(0.5)),
    "truncated to one third": ("truncated", truncated(1 / 3)),
    "left and right exchanged": ("left and right exchanged", exchanged),
    "renamed": ("wrong organ", renamed),
    "margin of 9 mm": ("planning aid", grown(9.0)),
    "shell of 6 mm": ("planning aid", grown(6.0, shell=True)),
    "removed": ("absent", lambda intact, rng: torch.zeros_like(intact.contour)),
}
"""The kind that is right for each way."""


def rank(doubt: Doubt) -> float:
    """The higher, the nearer to the top of the list."""
    return doubt.doubt - (doubt.kind == UNSURE)


def rows_of(intact: Sequence[Fit], broken: dict[str, list[Fit]]) -> list[list[str]]:
    """A row for each way to break contours; the medians that doubt needs are those of the intact contours."""
    typical, rows = medians_of(intact), []
    ranks = np.array([rank(doubt_of(fit, *typical[fit.organ])) for fit in intact])
    for name, fits in ((name, fits) for name, fits in broken.items() if fits):
        doubts = [doubt_of(fit, *typical[fit.organ]) for fit in fits]
        by_dice = auroc(-np.array([fit.dice for fit in fits]), -np.array([fit.dice for fit in intact]))
        by_doubt = auroc(np.array([rank(doubt) for doubt in doubts]), ranks)
        sure = [doubt for doubt in doubts if doubt.kind != UNSURE]
        listed = [doubt for doubt in sure if doubt.doubt >= DOUBTED]
        named = sum(doubt.kind == BREAKS[name][0] for doubt in listed) / max(len(listed), 1)
        shares = [f"{len(listed) / max(len(sure), 1):.0%}", f"{named:.0%}"]
        rows.append([name, str(len(fits)), f"{by_dice:.2f}", f"{by_doubt:.2f}", *shares])
    return rows


def measure(maps: CoarseMaps, cases: Sequence[Mapping[str, Any]]) -> str:
    """Break the contours of the cases, and compare all with the maps: counts, and the table."""
    store, rng, broken = maps.store, np.random.default_rng(SEED), {name: list[Fit]() for name in BREAKS}
    opened = [(case, store.open(case)) for case in cases]
    intact = [fit for case, stored in tqdm(opened) for fit in fits_of(stored, maps.of(case), store)]
    typical, spacing = medians_of(intact), store.grid.spacing
    right = {(fit.case, fit.organ) for fit in intact if doubt_of(fit, *typical[fit.organ]).doubt < DOUBTED}
    for case, stored in tqdm(opened):
        for organ in stored.annotated:
            if stored.label is None or (stored.name, store.organs[organ - 1]) not in right:
                continue
            totals = sums_of(maps.of(case))
            whole = Intact(stored.label == organ, stored.label, organ, store.organs, (spacing[2], *spacing[:2]))
            for name, (_, way) in BREAKS.items():
                if (contour := way(whole, rng)) is not None:
                    fit = fit_of(stored.name, contour, maps.of(case), totals, organ, store)
                    broken[name].append(fit)
    header = ["broken", "contours", "AUROC of the Dice", "AUROC of the doubt", "listed", "kind right"]
    table = markdown_table(header, rows_of(intact, broken))
    return f"{len(intact)} contours, of which {len(right)} are broken.\n{table}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m development.study.doubts", description="Doubt of broken contours.")
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--run_dir", help="folder of a training on it (default: the weights of the bundle)")
    parser.add_argument("--split", default="validation", help="split whose contours are broken (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        maps = maps_by_split([options.split], options.run_dir, scratch)[options.split]
        print(measure(maps, load_cases(options.dataset_dir, options.split, maps.store.organs, labelled=True)))


if __name__ == "__main__":
    install_plain_errors()
    main()
