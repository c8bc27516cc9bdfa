"""Doubted contours: those that the maps of a network which has not seen the case contradict, and how they differ.

A contour whose Dice with the map is low is one of two things. Either the map is unsure or of an implausible size: then
nothing is said of the contour. Or the map is sure of itself, and the contour lies elsewhere: the rules of `RULES` name
the kind. All bounds are our choice; some were moved after a look at OpenKBP (docs/studies/openkbp.md).
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

SURE, VOLUME_FACTOR = 0.75, 3.0  # a map is believed from this certainty on, and up to this factor of the median contour
DOUBTED = 0.3  # doubt from which on a contour is listed
LEAST_MEDIAN = 0.5  # of an organ's Dice: of few cases the median can be that of wrong contours
FITS, GAIN = 0.5, 0.2  # Dice that explains a contour, with another map or moved; by how much it has to be better there
UNSURE = "the network is unsure"


@dataclass(frozen=True)
class Fit:
    """One contour and the maps of its case. Dice are soft: 2 sum(min(p, t)) / (sum(p) + sum(t))."""

    case: str
    organ: str
    dice: float  # with the map of the organ
    certainty: float = 0.0  # Dice of the map with its own pixels of at least one half
    contour_ml: float = 0.0
    map_ml: float = 0.0
    shift_mm: float = 0.0  # length of the shift of the contour that fits best, and its Dice
    shifted_dice: float = 0.0
    partner_dice: float = 0.0  # with the map of the same organ on the other side
    other: str = ""  # organ that is neither, whose map fits best
    other_dice: float = 0.0
    inside: float = 0.0  # share of the contour in the map
    covered: float = 0.0  # share of the map in the contour, and in the contour with the holes of its slices filled
    enclosed: float = 0.0
    missing_mm: float = 0.0  # length of the map beyond the last slice of the contour; as a share of the map's length
    missing: float = 0.0
    margin_mm: float = 0.0  # from the surface of the contour to the map: mean, and standard deviation
    margin_sd: float = 0.0
    boxed: float = 0.0  # share of its bounding box that the contour fills


RULES: tuple[tuple[str, str, Callable[[Fit], bool]], ...] = (
    ("absent", "no voxel is contoured, the map has {map_ml:.3g} ml", lambda f: f.contour_ml == 0),
    ("left and right exchanged", "fits the map of the other side with a Dice of {partner_dice:.2f}",
     lambda f: f.partner_dice >= max(FITS, f.dice + GAIN)),
    ("wrong organ", "fits the map of {other} with a Dice of {other_dice:.2f}",
     lambda f: f.other_dice >= max(FITS, f.dice + GAIN)),
    ("planning aid", "is a shell: {enclosed:.0%} of the map lie within it, {covered:.0%} in it",
     lambda f: f.enclosed >= 0.7 and f.enclosed - f.covered >= 0.3),
    ("planning aid", "is a box of {contour_ml:.3g} ml, the map has {map_ml:.3g} ml",
     lambda f: f.boxed >= 0.85 and f.contour_ml >= 1.5 * f.map_ml),
    ("planning aid", "has {contour_ml:.3g} ml, the map {map_ml:.3g} ml", lambda f: f.contour_ml >= 6 * f.map_ml),
    ("planning aid", "surrounds the map with a margin of {margin_mm:.0f} mm on all sides",
     lambda f: f.covered >= 0.85 and f.margin_mm >= 4 and f.margin_sd <= 0.4 * f.margin_mm),
    ("too large", "has {contour_ml:.3g} ml, the map {map_ml:.3g} ml, {covered:.0%} of which it contains",
     lambda f: f.covered >= 0.5 and f.contour_ml >= 1.7 * f.map_ml),
    ("truncated", "ends {missing_mm:.0f} mm before the map does",
     lambda f: f.inside >= 0.6 and f.missing >= 0.25 and f.missing_mm >= 9),
    ("displaced", "fits with a Dice of {shifted_dice:.2f} once it is moved by {shift_mm:.0f} mm",
     lambda f: f.shift_mm >= 4 and f.shifted_dice >= max(FITS, f.dice + GAIN / 2)),
    ("too small", "has {contour_ml:.3g} ml, the map around it {map_ml:.3g} ml",
     lambda f: f.inside >= 0.6 and f.contour_ml <= 0.6 * f.map_ml),
    ("elsewhere", "{inside:.0%} of it lie in the map, {covered:.0%} of the map in it", lambda f: True),
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
    if (label := stored.label) is None:
        return
    totals = sums_of(maps)
    for organ in stored.annotated:
        fit = fit_of(stored.name, torch.eq(label, organ), maps, totals, organ, store)
        if fit.contour_ml or fit.map_ml:
            yield fit


def sums_of(maps: Tensor) -> Tensor:
    """Sum of each map [slice, organ, x, y] uint8, as probabilities."""
    return maps.sum((2, 3), dtype=torch.int32).sum(0) / 255


def fit_of(case: str, contour: Tensor, maps: Tensor, totals: Tensor, organ: int, store: SliceStore) -> Fit:
    """Compare a contour [slice, x, y] bool, said to be of the organ of a class index, with all maps of its case.

    Totals are the `sums_of` the maps. Measures of geometry are 0 for a Dice with which no contour is doubted.
    """
    share = interpolate(contour.float()[:, None], size=maps.shape[2:], mode="area")[:, 0]
    box = tuple(ndimage.find_objects((share > 0).numpy().astype(np.int8)) or [(slice(0, 0),) * 3])[0]
    probability = maps[box[0], :, box[1], box[2]].float() / 255
    common = torch.minimum(probability, share[box][:, None]).sum((0, 2, 3))
    dice = dict(zip(store.organs, (2 * common / (totals + share.sum()).clamp(min=1e-6)).tolist(), strict=True))
    name = store.organs[organ - 1]
    partner = re.sub("left|right", lambda side: {"left": "right", "right": "left"}[side[0]], name)
    others = {other: value for other, value in dice.items() if other not in (name, partner)}
    best = max(others, key=lambda other: others[other], default="")
    plane = [mm * size / n for mm, size, n in zip(store.grid.spacing, contour.shape[1:], maps.shape[2:], strict=False)]
    mm = (store.grid.spacing[2], *plane)
    map_alone, found = maps[:, organ - 1].numpy() / 255, maps[:, organ - 1].numpy() >= 128
    return Fit(
        case,
        name,
        dice[name],
        certainty=float(2 * map_alone[found].sum() / max(map_alone.sum() + found.sum(), 1e-6)),
        contour_ml=float(share.sum()) * float(np.prod(mm)) / 1000,
        map_ml=float(found.sum()) * float(np.prod(mm)) / 1000,
        partner_dice=dice.get(partner, 0.0) if partner != name else 0.0,
        other=best,
        other_dice=others.get(best, 0.0),
        **(_geometry(share.numpy(), found, mm) if dice[name] <= 1 - DOUBTED else {}),
    )


def _geometry(share: NDArray[np.float32], found: NDArray[np.bool_], mm: Sequence[float]) -> dict[str, float]:
    """How a contour [slice, x, y], as shares of pixels, lies to the largest piece of the map; empty if one is empty."""
    contour = share >= 0.5
    if not contour.any() or not found.any():
        return {}
    pieces, _ = ndimage.label(found)
    found = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    (box,) = ndimage.find_objects((contour | found).astype(np.int8))
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    share, found, contour = share[around], found[around], contour[around]
    overlap = signal.correlate(found.astype(np.float32), share, mode="full", method="fft")
    best = np.unravel_index(int(overlap.argmax()), overlap.shape)
    shift = (np.array(best) - share.shape + 1) * mm
    (first, last), (begin, end) = (np.flatnonzero(each.any((1, 2)))[[0, -1]] for each in (contour, found))
    missing = max(first - begin, end - last, 0)
    filled = np.stack([ndimage.binary_fill_holes(each) for each in contour])
    distance = ndimage.distance_transform_edt(~found, sampling=mm)[contour & ~ndimage.binary_erosion(contour)]
    (own_box,) = ndimage.find_objects(contour.astype(np.int8))
    return {
        "shift_mm": float(np.linalg.norm(shift)),
        "shifted_dice": float(2 * overlap.max() / (share.sum() + found.sum())),
        "inside": float(share[found].sum() / share.sum()),
        "covered": float(contour[found].mean()),
        "enclosed": float(filled[found].mean()),
        "missing_mm": float(missing * mm[0]),
        "missing": float(missing / (end - begin + 1)),
        "margin_mm": float(distance.mean()),
        "margin_sd": float(distance.std()),
        "boxed": float(contour[own_box].mean()),
    }


def judge(fits: Sequence[Fit]) -> list[Doubt]:
    """The doubted contours, worst first; then those that fit a map badly which is not to be believed, as UNSURE."""
    typical = medians_of(fits)
    listed = [doubt for fit in fits if (doubt := doubt_of(fit, *typical[fit.organ])).doubt >= DOUBTED]
    return sorted(listed, key=lambda doubt: (doubt.kind == UNSURE, -doubt.doubt))


def medians_of(fits: Sequence[Fit]) -> dict[str, tuple[float, float]]:
    """Median Dice and median volume in ml of the contours of each organ."""
    typical: dict[str, tuple[float, float]] = {}
    for organ in {fit.organ for fit in fits}:
        shown = [(fit.dice, fit.contour_ml) for fit in fits if fit.organ == organ and fit.contour_ml] or [(0.0, 0.0)]
        dice, volume = np.median(shown, axis=0).tolist()
        typical[organ] = max(dice, LEAST_MEDIAN), volume
    return typical


def doubt_of(fit: Fit, median_dice: float, median_ml: float) -> Doubt:
    """Doubt: certainty x (1 - Dice / median Dice of the organ); where the map is not believed, without certainty."""
    misfit = 1 - fit.dice / median_dice
    if fit.certainty < SURE or not median_ml / VOLUME_FACTOR <= fit.map_ml <= median_ml * VOLUME_FACTOR:
        return Doubt(fit, UNSURE, f"the map has a certainty of {fit.certainty:.2f} and {fit.map_ml:.3g} ml", misfit)
    kind, reason = next((kind, reason) for kind, reason, applies in RULES if applies(fit))
    return Doubt(fit, kind, reason.format_map(asdict(fit)), fit.certainty * misfit)
