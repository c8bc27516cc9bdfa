"""Contours that are wrong on purpose, each of which has to be named as what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_scan import coarse_maps_of, known_maps, stored, two_organs
from torch import Tensor

from development.study.doubts import measure
from scripts.coarse.doubts import UNSURE, Doubt, Fit, fit_of, fits_of, judge, sums_of
from scripts.preprocessing.slice_store import SliceStore

ORGANS = ["left_parotid", "right_parotid", "larynx"]
STORE = SliceStore(ORGANS, [3.0, 3.0, 3.0], "")  # says the organs and the size of a voxel


def ball(z: float, x: float, y: float, radius: float) -> Tensor:
    """A ball [slice, x, y] in a scan of 30 x 48 x 48 voxels."""
    axes = torch.meshgrid(torch.arange(30), torch.arange(48), torch.arange(48), indexing="ij")
    return sum((axis - centre) ** 2 for axis, centre in zip(axes, (z, x, y), strict=True)) <= radius**2


LEFT, RIGHT, LARYNX = ball(15, 36, 24, 6), ball(15, 11, 24, 6), ball(15, 24, 24, 5)
MAPS = torch.stack([LEFT, RIGHT, LARYNX], 1).to(torch.uint8) * 240


def grown(contour: Tensor, voxels: int) -> Tensor:
    return torch.from_numpy(ndimage.binary_dilation(contour, ndimage.generate_binary_structure(3, 2), voxels))


def box() -> Tensor:
    contour = torch.zeros(30, 48, 48, dtype=torch.bool)
    contour[8:22, 26:46, 14:34] = True
    return contour


BROKEN: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "moved by 12 mm": ("displaced", lambda: LEFT.roll(4, 2)),
    "moved by 21 mm": ("displaced", lambda: LEFT.roll((5, -5), (0, 1))),
    "lower third": ("truncated", lambda: LEFT & (torch.arange(30) <= 13)[:, None, None]),
    "of the other side": ("left and right exchanged", lambda: RIGHT),
    "of another organ": ("wrong organ", lambda: LARYNX),
    "grown by 9 mm": ("planning aid", lambda: grown(LEFT, 3)),
    "a shell": ("planning aid", lambda: grown(LEFT, 2) & ~LEFT),
    "a box": ("planning aid", box),
    "with a large part outside": ("too large", lambda: LEFT | ball(15, 36, 34, 7)),
    "empty": ("absent", lambda: torch.zeros_like(LEFT)),
    "inner part": ("too small", lambda: ball(15, 36, 24, 4)),
    "in pieces": ("elsewhere", lambda: ball(4, 44, 40, 3) | ball(26, 44, 6, 3) | ball(15, 33, 24, 2)),
}


def fit(case: str, contour: Tensor, maps: Tensor = MAPS) -> Fit:
    return fit_of(case, contour, maps, sums_of(maps), 1, STORE)


def judged(contour: Tensor, maps: Tensor = MAPS) -> list[Doubt]:
    """What is said of one contour among ten patients whose contours are right."""
    return judge([fit("bad", contour, maps), *[fit("good", LEFT)] * 10])


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_contour_is_listed_with_its_kind(name: str) -> None:
    kind, broken = BROKEN[name]
    (doubt,) = judged(broken())
    assert (doubt.fit.case, doubt.kind) == ("bad", kind)
    assert doubt.reason and "{" not in doubt.reason


def test_the_reason_says_how_far_a_contour_lies_from_its_organ() -> None:
    (doubt,) = judged(LEFT.roll(12, 2))
    assert doubt.fit.shift_mm == pytest.approx(36) and "moved by 36 mm" in doubt.reason
    assert doubt.fit.dice < 0.01 and doubt.fit.shifted_dice > 0.95


@pytest.mark.parametrize("maps", [MAPS * 0, MAPS * 0 + 255, MAPS // 240 * 140], ids=["nowhere", "everywhere", "weak"])
def test_a_map_that_is_empty_everywhere_or_unsure_says_nothing_of_the_contour(maps: Tensor) -> None:
    assert {doubt.kind for doubt in judged(LEFT.roll(7, 2), maps)} == {UNSURE}


def test_the_worst_come_first_and_the_unsure_last() -> None:
    fits = [fit(f"{mm} mm", LEFT.roll(mm // 3, 2)) for mm in (36, 0, 0, 0, 0, 0, 15, 21)]
    fits.append(replace(fits[0], case="unsure", certainty=0.5))
    assert [doubt.fit.case for doubt in judge(fits)] == ["36 mm", "21 mm", "15 mm", "unsure"]


def test_of_a_single_case_a_contour_beside_its_organ_is_doubted_as_well() -> None:
    assert [doubt.kind for doubt in judge([fit("x", LEFT.roll(7, 2))])] == ["displaced"]


def test_a_case_has_a_fit_for_each_contoured_organ_that_is_there_or_should_be(tmp_path: Path) -> None:
    label = two_organs()
    label[label == 2] = 0
    case, store = stored(tmp_path, label)
    maps = (coarse_maps_of(two_organs(), 2, (22, 14)) * 255).to(torch.uint8)
    spleen, liver = fits_of(store.open(case), maps, store)
    assert isinstance(spleen, Fit) and spleen.dice == pytest.approx(1, abs=0.01)
    assert spleen.contour_ml == pytest.approx(9 * 7 * 3 * 12 / 1000)
    assert (liver.contour_ml, liver.dice) == (0, 0) and liver.map_ml > 0
    only = {**case, "annotated": ["spleen"]}
    assert [fit.organ for fit in fits_of(store.open(only), maps, store)] == ["spleen"]


def test_a_study_breaks_right_contours_and_says_how_often_they_are_told_and_named(tmp_path: Path) -> None:
    label = np.zeros((48, 48, 30), np.uint8)
    label[12:24, 8:20, 4:22], label[28:42, 24:40, 8:24] = 1, 2
    cases, store = zip(*(stored(tmp_path, label, name) for name in "abc"), strict=True)
    right = coarse_maps_of(label, 2, (48, 48))
    table = measure(known_maps(tmp_path, store[0], dict.fromkeys("abc", right)), cases)
    first, _, _, *rows = table.splitlines()
    assert first == "6 contours, of which 6 are broken."
    cells = {row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in rows)}
    for name in ("displaced 30 mm", "truncated to one third", "renamed", "shell of 6 mm", "removed"):
        assert cells[name] == ["6", "1.00", "1.00", "100%", "100%"], name
    assert "left and right exchanged" not in cells, "neither organ has another side"
