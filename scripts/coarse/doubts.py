"""Doubted contours: those that the maps of a network which has not seen the case contradict, and how they differ.

A contour whose Dice with the map is low is one of two things. Either the map is unsure or of an implausible size: then
nothing is said of the contour. Or the map is sure of itself, and the contour lies elsewhere: the rules of `RULES` name
the kind. All bounds are our choice, by the cross-fitted maps of OpenKBP's training patients.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, signal
from torch import Tensor
from torch.nn.functional import interpolate

from scripts.preprocessing.slice_store import SliceStore, StoredCase

SURE = 0.75
"""Certainty from which on a map is believed."""
UNSURE = "the network is unsure"
VOLUME_FACTOR = 3.0
"""A map that is larger or smaller than the median contour of its organ by more than this is not believed."""
DOUBTED = 0.4
"""Doubt from which on a contour is listed."""
LEAST_MEDIAN = 0.5
"""What counts as the median Dice of an organ, at least: of few cases the median can be that of wrong contours."""
FITS, GAIN = 0.5, 0.2
"""Dice with another map, or after a shift, that explains a contour; and how much more that has to be than without."""


@dataclass(frozen=True)
class Fit:
    """One contour and the maps of its case. Dice are soft: 2 sum(min(p, t)) / (sum(p) + sum(t))."""

    case: str
    organ: str
    dice: float  # with the map of the organ
    certainty: float = 0.0  # Dice of the map with its own pixels of at least one half
    contour_ml: float = 0.0
    map_ml: float = 0.0
    shift_mm: float = 0.0  # length of the shift of the contour that fits best
    shifted_dice: float = 0.0
    partner_dice: float = 0.0  # with the map of the same organ on the other side
    other: str = ""  # organ that is neither, whose map fits best
    other_dice: float = 0.0
    inside: float = 0.0  # share of the contour that lies in the map
    covered: float = 0.0  # share of the map that lies in the contour
    enclosed: float = 0.0  # the same, once the holes of the contour are filled in every slice
    missing_mm: float = 0.0  # length of the map beyond the last slice of the contour, at the worse end
    missing: float = 0.0  # the same as a share of the length of the map
    margin_mm: float = 0.0  # from the surface of the contour to the map: mean, and standard deviation
    margin_sd: float = 0.0
    boxed: float = 0.0  # share of its bounding box that the contour fills


RULES: tuple[tuple[str, str, Callable[[Fit], bool]], ...] = (
    ("absent", "no voxel is contoured, and the map finds {map_ml:.3g} ml", lambda f: f.contour_ml == 0),
    ("left and right exchanged", "fits the map of the other side with a Dice of {partner_dice:.2f}",
     lambda f: f.partner_dice >= max(FITS, f.dice + GAIN)),
    ("wrong organ", "fits the map of {other} with a Dice of {other_dice:.2f}",
     lambda f: f.other_dice >= max(FITS, f.dice + GAIN)),
    ("planning aid", "is a shell: {enclosed:.0%} of the map lie within it, {covered:.0%} in it",
     lambda f: f.enclosed >= 0.7 and f.enclosed - f.covered >= 0.3),
    ("planning aid", "is a box of {contour_ml:.3g} ml, the map has {map_ml:.3g} ml",
     lambda f: f.boxed >= 0.85 and f.contour_ml >= 1.5 * f.map_ml),
    ("planning aid", "surrounds the map with a margin of {margin_mm:.0f} mm on all sides",
     lambda f: f.covered >= 0.85 and f.margin_mm >= 4 and f.margin_sd <= 0.4 * f.margin_mm),
    ("too large", "has {contour_ml:.3g} ml, the map, {covered:.0%} of which it contains, {map_ml:.3g} ml",
     lambda f: f.covered >= 0.5 and f.contour_ml >= 1.7 * f.map_ml),
    ("truncated", "ends {missing_mm:.0f} mm before the map does",
     lambda f: f.inside >= 0.6 and f.missing >= 0.25 and f.missing_mm >= 9),
    ("displaced", "fits with a Dice of {shifted_dice:.2f} once it is moved by {shift_mm:.0f} mm",
     lambda f: f.shift_mm >= 4 and f.shifted_dice >= max(FITS, f.dice + GAIN / 2)),
    ("too small", "has {contour_ml:.3g} ml, the map around it {map_ml:.3g} ml",
     lambda f: f.inside >= 0.6 and f.contour_ml <= 0.6 * f.map_ml),
)  # fmt: skip
"""Kind, reason, condition: the first that holds names a doubted contour."""


class Doubt(NamedTuple):
    """A doubted contour: kind, reason in words, and doubt up to 1."""

    fit: Fit
    kind: str
    reason: str
    doubt: float


def fits_of(stored: StoredCase, maps: Tensor, store: SliceStore) -> Iterator[Fit]:
    """Compare each contoured organ of a case of a store with the maps [slice, organ, x', y'] uint8."""
    if stored.label is None:
        return
    for organ in stored.annotated:
        fit = fit_of(stored.name, stored.label == organ, maps, organ, store.organs, store.grid.spacing)
        if fit.contour_ml or fit.map_ml:
            yield fit


def fit_of(
    case: str, contour: Tensor, maps: Tensor, organ: int, organs: Sequence[str], spacing: Sequence[float]
) -> Fit:
    """Compare a contour [slice, x, y] bool, said to be of the organ of a class index, with all maps of its case.

    Spacing is x, y, z in mm. Measures of geometry are 0 for a Dice with which no contour is doubted.
    """
    share = interpolate(contour.float()[:, None], size=maps.shape[2:], mode="area")[:, 0]
    box = tuple(ndimage.find_objects((share > 0).numpy().astype(np.int8)) or [(slice(0, 0),) * 3])[0]
    probability = maps[box[0], :, box[1], box[2]].float() / 255
    common = torch.minimum(probability, share[box][:, None]).sum((0, 2, 3))
    total = maps.sum((0, 2, 3), dtype=torch.int64) / 255 + share.sum()
    dice = (2 * common / total.clamp(min=1e-6)).tolist()
    own, name = organ - 1, organs[organ - 1]
    partner = re.sub("left|right", lambda side: {"left": "right", "right": "left"}[side[0]], name)
    others = {other: value for other, value in zip(organs, dice, strict=True) if other not in (name, partner)}
    best = max(others, key=lambda other: others[other], default="")
    plane = [mm * size / coarse for mm, size, coarse in zip(spacing, contour.shape[1:], maps.shape[2:], strict=False)]
    mm = (spacing[2], *plane)
    map_alone, found = maps[:, own].numpy() / 255, maps[:, own].numpy() >= 128
    ml = float(np.prod(mm)) / 1000
    return Fit(
        case,
        name,
        dice[own],
        certainty=float(2 * map_alone[found].sum() / max(map_alone.sum() + found.sum(), 1e-6)),
        contour_ml=float(share.sum()) * ml,
        map_ml=float(found.sum()) * ml,
        partner_dice=dice[organs.index(partner)] if partner != name and partner in organs else 0.0,
        other=best,
        other_dice=others.get(best, 0.0),
        **(_geometry(share.numpy(), found, mm) if dice[own] <= 1 - DOUBTED else {}),
    )


def _geometry(share: NDArray[np.float32], found: NDArray[np.bool_], mm: Sequence[float]) -> dict[str, float]:
    """How a contour [slice, x, y], as shares of pixels, lies to the map; nothing where one of them is empty."""
    contour = share >= 0.5
    if not contour.any() or not found.any():
        return {}
    (box,) = ndimage.find_objects((contour | found).astype(np.int8))
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    share, found, contour = share[around], found[around], contour[around]
    overlap = signal.correlate(found.astype(np.float32), share, mode="full", method="fft")
    best = np.unravel_index(int(overlap.argmax()), overlap.shape)
    shift = [(place - size + 1) * step for place, size, step in zip(best, share.shape, mm, strict=True)]
    (first, last), (begin, end) = (np.flatnonzero(each.any((1, 2)))[[0, -1]] for each in (contour, found))
    missing = max(first - begin, end - last, 0)
    filled = np.stack([ndimage.binary_fill_holes(each) for each in contour])
    distance = ndimage.distance_transform_edt(~found, sampling=mm)[contour & ~ndimage.binary_erosion(contour)]
    (own_box,) = ndimage.find_objects(contour.astype(np.int8))
    values = {
        "shift_mm": np.linalg.norm(shift),
        "shifted_dice": 2 * overlap.max() / (share.sum() + found.sum()),
        "inside": share[found].sum() / share.sum(),
        "covered": contour[found].mean(),
        "enclosed": filled[found].mean(),
        "missing_mm": missing * mm[0],
        "missing": missing / (end - begin + 1),
        "margin_mm": distance.mean(),
        "margin_sd": distance.std(),
        "boxed": contour[own_box].mean(),
    }
    return {name: float(value) for name, value in values.items()}


def judge(fits: Sequence[Fit]) -> list[Doubt]:
    """The doubted contours, worst first; then those that fit a map badly which is not to be believed, as UNSURE."""
    typical = medians_of(fits)
    doubts = [doubt_of(fit, *typical[fit.organ]) for fit in fits]
    listed = [doubt for doubt in doubts if doubt.doubt >= DOUBTED]
    return sorted(listed, key=lambda doubt: (doubt.kind == UNSURE, -doubt.doubt))


def medians_of(fits: Sequence[Fit]) -> dict[str, tuple[float, float]]:
    """Median Dice and median volume in ml of the contours of each organ."""
    typical: dict[str, tuple[float, float]] = {}
    for organ in {fit.organ for fit in fits}:
        shown = [fit for fit in fits if fit.organ == organ and fit.contour_ml]
        dice, volume = ([getattr(fit, name) for fit in shown] or [0.0] for name in ("dice", "contour_ml"))
        typical[organ] = max(float(np.median(dice)), LEAST_MEDIAN), float(np.median(volume))
    return typical


def doubt_of(fit: Fit, median_dice: float, median_ml: float) -> Doubt:
    """Doubt: certainty x (1 - Dice / median Dice of the organ); where the map is not believed, without certainty."""
    misfit = 1 - fit.dice / median_dice
    if fit.certainty < SURE or not median_ml / VOLUME_FACTOR <= fit.map_ml <= median_ml * VOLUME_FACTOR:
        return Doubt(fit, UNSURE, f"the map has a certainty of {fit.certainty:.2f} and {fit.map_ml:.3g} ml", misfit)
    return Doubt(fit, *kind_of(fit), fit.certainty * misfit)


def kind_of(fit: Fit) -> tuple[str, str]:
    """Kind of a doubted contour, and the reason in words."""
    for kind, reason, applies in RULES:
        if applies(fit):
            return kind, reason.format_map(asdict(fit))
    return "elsewhere", f"{fit.inside:.0%} of it lie in the map, {fit.covered:.0%} of the map in it"
