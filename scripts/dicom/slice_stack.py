"""Whether the images of a series are slices of one regular volume, and the grid that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scripts.dicom.headers import Header, obstacle
from scripts.dicom.series import Series, unreadable_files
from scripts.dicom.slice_numbers import Irregular, SliceNumbers, name_of, numbers_of

EQUAL = {"Rows": "rows", "Columns": "columns", "PixelSpacing": "spacing", "ImageOrientationPatient": "orientation"}
"""Tags that all slices share, and where :class:`SliceNumbers` has them."""
PLACE_TOLERANCE = 0.1
"""How far a slice may lie from its place on the regular grid, in slice distances and in pixels; our choice."""
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's world axes (left, posterior, superior) to those of NIfTI (right, anterior, superior)."""
HOW_TO_CONVERT = "convert the series to NIfTI with dcm2niix, look at the result, and give that"


@dataclass(frozen=True)
class SliceStack:
    """A series that is a volume."""

    headers: tuple[Header, ...]  # in the order in which the slices are stacked (along rows x columns)
    numbers: tuple[SliceNumbers, ...]  # in the same order
    affine: NDArray[np.float64]  # 4 x 4, (column, row, slice) to RAS position in mm

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return self.numbers[0].columns, self.numbers[0].rows, len(self.numbers)

    @property
    def rescale_varies(self) -> bool:
        """Whether stored values become HU in another way in some slices than in others."""
        return len({(one.slope, one.intercept, one.storage) for one in self.numbers}) > 1


def slice_stack(series: Series) -> SliceStack:
    """Order the images of a series and work out their grid; ValueError, with place and remedy: no regular volume."""
    if series.unreadable:
        raise ValueError(unreadable_files(series.unreadable))
    try:
        return _stack(series.headers, _checked_numbers(series.headers))
    except Irregular as reason:
        raise ValueError(f"DICOM series {series.uid} is not read as a volume: {reason}.") from None


def _checked_numbers(headers: Sequence[Header]) -> list[SliceNumbers]:
    if len(headers) < 2:
        raise Irregular("it is a single image, and a volume has at least two")
    for header in headers:
        if why := obstacle(header.file_meta.TransferSyntaxUID):
            raise Irregular(f"{name_of(header)} is {why}")
    if len({str(header.get("PatientID") or "") for header in headers} - {""}) > 1:
        raise Irregular("it holds images of several patients; export each one's as a series of its own")
    numbers = [numbers_of(header) for header in headers]
    for header, one in zip(headers, numbers, strict=True):
        for tag, field in EQUAL.items():
            if not np.allclose(getattr(one, field), getattr(numbers[0], field), rtol=0.0, atol=1e-4):
                values = f"{header.get(tag)} in {name_of(header)} and {headers[0].get(tag)} in {name_of(headers[0])}"
                raise Irregular(f"{tag} is {values}")
    return numbers


def _stack(headers: Sequence[Header], numbers: Sequence[SliceNumbers]) -> SliceStack:
    along_row, along_column = numbers[0].orientation
    normal = np.cross(along_row, along_column)
    places = np.stack([one.position for one in numbers])
    order = np.argsort(places @ normal, kind="stable")
    ordered, places = tuple(headers[index] for index in order), places[order]
    pixel_height, pixel_width = numbers[0].spacing
    _check_distances(ordered, places @ normal)
    _check_acquisitions(ordered)
    step = (places[-1] - places[0]) / (len(places) - 1)
    _check_tilt(step, normal, (len(places) - 1) / min(pixel_height, pixel_width))
    expected = places[0] + np.arange(len(places))[:, None] * step
    astray = np.linalg.norm(places - expected, axis=1) / min(pixel_height, pixel_width)
    worst = int(np.argmax(astray))
    if astray[worst] > 1.0:
        pixels = f"{astray[worst]:.1f} pixels"
        raise Irregular(f"{name_of(ordered[worst])} is shifted sideways by {pixels}; {HOW_TO_CONVERT}")
    step = normal * np.linalg.norm(step)  # a tilt of less than half a pixel is no shear, as in ITK
    affine = np.eye(4)
    affine[:3] = np.stack([along_row * pixel_width, along_column * pixel_height, step, places[0]], axis=1)
    return SliceStack(ordered, tuple(numbers[index] for index in order), TO_RAS @ affine)


def _check_distances(headers: Sequence[Header], heights: NDArray[np.float64]) -> None:
    """Refuse slices that do not follow one another at one distance; `heights` rise along the stack, mm."""
    gaps = np.diff(heights)
    usual = float(np.quantile(gaps, 0.5, method="lower"))  # one that occurs: 5 of the gaps 5 and 10
    twice = int((gaps < 0.01).sum())
    if twice or usual <= 0:
        twins = f"{twice} of {len(headers)} images lie at the place of another (several phases in one series?)"
        raise Irregular(f"{twins}; export one phase as a series of its own")
    mean = (heights[-1] - heights[0]) / len(gaps)
    if np.abs(heights - heights[0] - mean * np.arange(len(heights))).max() <= PLACE_TOLERANCE * mean:
        return
    wide = int(np.argmax(gaps))
    steps = gaps / usual
    between = " and ".join(map(name_of, headers[wide : wide + 2]))
    where = f"between {between} ({gaps[wide]:.2f} mm, else {usual:.2f} mm)"
    missing = int((steps.round() - 1).sum())
    if missing > 0 and np.abs(steps - steps.round()).max() <= 2 * PLACE_TOLERANCE:
        raise Irregular(f"{missing} slice{'s'[: missing > 1]} missing, the widest gap {where}; copy the series again")
    raise Irregular(f"distances of slices differ, from {gaps.min():.2f} to {gaps.max():.2f} mm; {HOW_TO_CONVERT}")


def _check_acquisitions(headers: Sequence[Header]) -> None:
    """Refuse slices of several acquisitions that alternate: two phases, shifted by half a distance, look regular."""
    acquisitions = [str(header.get("AcquisitionNumber", "")) for header in headers]
    changes = sum(one != other for one, other in pairwise(acquisitions))
    if changes >= len(set(acquisitions)):
        some = " and ".join(sorted(set(acquisitions))[:2])
        raise Irregular(f"slices of acquisitions {some} alternate; export each acquisition as a series of its own")


def _check_tilt(step: NDArray[np.float64], normal: NDArray[np.float64], per_pixel: float) -> None:
    """Refuse slices not stacked at right angles; `per_pixel` makes pixels over the whole stack of the drift."""
    along = float(step @ normal)
    drift = float(np.linalg.norm(step - along * normal))
    if drift * per_pixel > 0.5:
        degrees = np.degrees(np.arctan2(drift, along))
        tilt = f"tilted by {degrees:.1f} degrees against the direction in which they are stacked (gantry tilt)"
        raise Irregular(f"its slices are {tilt}; {HOW_TO_CONVERT}: dcm2niix straightens them")
