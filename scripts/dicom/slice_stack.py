"""Whether the images of a series are slices of one regular volume, and the grid that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.dicom.compressions import obstacle
from scripts.dicom.headers import Header, pydicom
from scripts.dicom.series import Series

PLACE_TOLERANCE = 0.1
"""How far a slice may lie from its place on the regular grid, in slice distances and in pixels; our choice."""
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's world axes (left, posterior, superior) to those of NIfTI (right, anterior, superior)."""
HOW_TO_CONVERT = "convert the series to NIfTI with dcm2niix, look at the result, and give that"


@dataclass(frozen=True)
class SliceStack:
    """A series that is a volume.

    Attributes:
        headers: one per slice, in the order in which the slices are stacked (along rows x columns).
        affine: 4 x 4, (column, row, slice) to RAS position in mm.
    """

    headers: tuple[Header, ...]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return int(self.headers[0].Columns), int(self.headers[0].Rows), len(self.headers)


def slice_stack(series: Series) -> SliceStack:
    """Order the images of a series and work out their grid.

    Raises:
        ValueError: they are no regular volume, or cannot be decoded; the message says why, where, and what to do.
    """
    try:
        _check_images(series.headers)
        return _stack(series.headers)
    except Irregular as reason:
        raise ValueError(f"DICOM series {series.uid} is not read as a volume: {reason}.") from None


class Irregular(Exception):
    """Why a series is no volume."""


def _check_images(headers: Sequence[Header]) -> None:
    if len(headers) < 2:
        raise Irregular("it is a single image, and a volume has at least two")
    first = headers[0]
    for header in headers:
        name = _name(header)
        syntax = header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
        if obstacle(syntax):
            raise Irregular(f"{name} is {obstacle(syntax)}")
        if header.missing_bytes:
            raise Irregular(f"{name} is cut off, {header.missing_bytes} bytes are missing; export or copy it again")
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
            if header.get(tag) is None:
                raise Irregular(f"{name} has no {tag}, so its place in the body is unknown; export it again")
        if header.get("RescaleSlope") is None or header.get("RescaleIntercept") is None:
            raise Irregular(f"{name} has no RescaleSlope and RescaleIntercept, so its values may not be HU")
        for tag in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
            if not np.allclose(header.get(tag), first.get(tag), rtol=0.0, atol=1e-4):
                raise Irregular(f"{tag} is {header.get(tag)} in {name} and {first.get(tag)} in {_name(first)}")


def _stack(headers: Sequence[Header]) -> SliceStack:
    along_row, along_column = np.asarray(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(along_row, along_column)
    places = np.asarray([header.ImagePositionPatient for header in headers], dtype=float)
    order = np.argsort(places @ normal, kind="stable")
    ordered, places = tuple(headers[index] for index in order), places[order]
    pixel_height, pixel_width = (float(size) for size in headers[0].PixelSpacing)
    _check_distances(ordered, places @ normal)
    step = (places[-1] - places[0]) / (len(places) - 1)
    _check_tilt(step, normal, (len(places) - 1) / min(pixel_height, pixel_width))
    expected = places[0] + np.arange(len(places))[:, None] * step
    astray = np.linalg.norm(places - expected, axis=1) / min(pixel_height, pixel_width)
    worst = int(np.argmax(astray))
    if astray[worst] > 1.0:
        raise Irregular(f"{_name(ordered[worst])} is shifted sideways by {astray[worst]:.1f} pixels; {HOW_TO_CONVERT}")
    affine = np.eye(4)
    affine[:3] = np.stack([along_row * pixel_width, along_column * pixel_height, step, places[0]], axis=1)
    return SliceStack(ordered, TO_RAS @ affine)


def _check_distances(headers: Sequence[Header], heights: NDArray[np.float64]) -> None:
    """Refuse slices that do not follow one another at one distance; `heights` rise along the stack, mm."""
    gaps = np.diff(heights)
    usual = float(np.quantile(gaps, 0.5, method="lower"))  # one that occurs: 5 of the gaps 5 and 10
    twice = int((gaps < 0.01).sum())
    if twice or usual <= 0:
        raise Irregular(
            f"{twice} of {len(headers)} images lie at the place of another (several phases in one series?); export "
            "one phase as a series of its own"
        )
    mean = (heights[-1] - heights[0]) / len(gaps)
    if np.abs(heights - heights[0] - mean * np.arange(len(heights))).max() <= PLACE_TOLERANCE * mean:
        return
    wide = int(np.argmax(gaps))
    steps = gaps / usual
    where = f"between {_name(headers[wide])} and {_name(headers[wide + 1])} ({gaps[wide]:.2f} mm, else {usual:.2f} mm)"
    if np.abs(steps - steps.round()).max() <= 2 * PLACE_TOLERANCE:
        missing = int((steps.round() - 1).sum())
        raise Irregular(f"{missing} slice{'s'[: missing > 1]} missing, the widest gap {where}; copy the series again")
    raise Irregular(f"distances of slices differ, from {gaps.min():.2f} to {gaps.max():.2f} mm; {HOW_TO_CONVERT}")


def _check_tilt(step: NDArray[np.float64], normal: NDArray[np.float64], per_pixel: float) -> None:
    """Refuse slices not stacked at right angles; `per_pixel` makes pixels over the whole stack of the drift."""
    along = float(step @ normal)
    drift = float(np.linalg.norm(step - along * normal))
    if drift * per_pixel > 0.5:
        degrees = np.degrees(np.arctan2(drift, along))
        raise Irregular(
            f"its slices are tilted by {degrees:.1f} degrees against the direction in which they are stacked (gantry "
            f"tilt); {HOW_TO_CONVERT}: dcm2niix straightens them"
        )


def _name(header: Header) -> str:
    return str(header.filename).replace("\\", "/").rpartition("/")[2]
