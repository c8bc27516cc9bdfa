"""Cases that are worth a look: not refused, since each can be right, but unlike the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import median_abs_deviation

from scripts.dataset_report.measure import CaseMeasure

# Our choices. A robust z-score compares with the median in units of the median deviation; 3.5 is the usual bound
# (Iglewicz and Hoaglin, 1993). The least differences keep a cohort of equals from reporting its rounding.
MAX_Z, MIN_CASES = 3.5, 6
VOLUME_RATIO, SPACING_RATIO, LENGTH_RATIO = 1.5, 1.8, 2.5
HU_DIFFERENCE, MAX_APART = 20.0, 0.2
SIDES = (("left_", "right_"), ("_left", "_right"))


@dataclass(frozen=True)
class Outlier:
    """One thing worth a look: the case, and what is unlike the others."""

    case: str
    what: str


def find_outliers(cases: Sequence[CaseMeasure]) -> list[Outlier]:
    """Everything worth a look, case by case in the order of the cases."""
    found = [Outlier(case.case, f"cannot be read: {case.failure}") for case in cases if case.failure]
    readable = [case for case in cases if not case.failure]
    if len(readable) >= MIN_CASES:
        found += _hounsfield_units(readable)
        for values, ratio, name in (
            ([case.spacing[0] for case in readable], SPACING_RATIO, "pixel size"),
            ([case.spacing[2] for case in readable], SPACING_RATIO, "slice distance"),
            ([case.extent[2] for case in readable], LENGTH_RATIO, "length of the scan"),
        ):
            found += _far(readable, values, ratio, name)
    for organ in dict.fromkeys(organ for case in readable for organ in case.organs):
        found += _volumes(readable, organ)
    found += [Outlier(case.case, what) for case in readable for what in (*_swapped_sides(case), *_pieces(case))]
    order = {case.case: n for n, case in enumerate(cases)}
    return sorted(found, key=lambda outlier: order[outlier.case])


def robust_z(values: Sequence[float]) -> list[float]:
    """Distance from the median in robust standard deviations: ``[1, 2, 3, 4, 50]`` -> the last one has 31.7.

    All 0 if more than half of the values are equal.
    """
    array = np.asarray(values, dtype=float)
    off, deviation = array - np.nanmedian(array), median_abs_deviation(array, scale="normal", nan_policy="omit")
    return [float(distance) for distance in (off / deviation if deviation > 0 else np.zeros_like(off))]


def _hounsfield_units(cases: Sequence[CaseMeasure]) -> list[Outlier]:
    values = [case.soft_tissue_hu for case in cases]
    median = float(np.nanmedian(values))
    return [
        Outlier(case.case, f"soft tissue has a median of {value:.0f} HU, {median:.0f} HU in the data set")
        for case, value, z in zip(cases, values, robust_z(values), strict=True)
        if abs(z) > MAX_Z and abs(value - median) > HU_DIFFERENCE
    ]


def _far(cases: Sequence[CaseMeasure], values: Sequence[float], ratio: float, name: str) -> list[Outlier]:
    """Values in mm that differ from the median by a factor; a z-score says nothing of clusters."""
    median = float(np.median(values))
    return [
        Outlier(case.case, f"{name} of {value:.3g} mm, {median:.3g} mm in the data set")
        for case, value in zip(cases, values, strict=True)
        if not median / ratio <= value <= median * ratio
    ]


def _volumes(cases: Sequence[CaseMeasure], organ: str) -> list[Outlier]:
    name = organ.replace("_", " ")
    measures = [(case.case, case.organs[organ]) for case in cases if organ in case.organs]
    absent = f"{name} is listed as contoured, and has no voxel"
    found = [Outlier(case, absent) for case, measure in measures if measure.ml == 0]
    # An organ that the scan cuts has no volume to compare.
    whole = [(case, measure.ml) for case, measure in measures if measure.ml > 0 and not measure.cut]
    if len(whole) < MIN_CASES:
        return found
    logs = [math.log(ml) for _, ml in whole]
    median = float(np.median(logs))
    for (case, ml), log, z in zip(whole, logs, robust_z(logs), strict=True):
        if abs(z) > MAX_Z and abs(log - median) > math.log(VOLUME_RATIO):
            found.append(Outlier(case, f"{name} has {ml:.3g} ml, {math.exp(median):.3g} ml in the data set"))
    return found


def _swapped_sides(case: CaseMeasure) -> list[str]:
    """Pairs whose left organ lies to the right of the right one."""
    found = []
    pairs = [(organ, organ.replace(left, right)) for left, right in SIDES for organ in case.organs if left in organ]
    for organ, other in pairs:
        ours, theirs = (case.organs[name].centre if name in case.organs else None for name in (organ, other))
        if ours and theirs and ours[0] < theirs[0]:
            found.append(f"{organ.replace('_', ' ')} lies to the right of {other.replace('_', ' ')}: swapped?")
    return found


def _pieces(case: CaseMeasure) -> list[str]:
    return [
        f"{100 * measure.apart:.0f} % of {organ.replace('_', ' ')} is apart from its largest piece"
        for organ, measure in case.organs.items()
        if measure.apart > MAX_APART
    ]
