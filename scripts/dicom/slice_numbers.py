"""The numbers of a slice on which place and HU depend, parsed strictly: other readers guess."""

import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.dicom.headers import AGAIN, UNCOMPRESSED, Header, pydicom

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""A number as the standard writes it (PS3.5, DS): with a point, without separators, units or nan."""
COSINE_TOLERANCE = 1e-3
"""How far from 1 and 0 the lengths and the product of the two directions of a slice may be; as in GDCM."""
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
PLACE = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")


class Irregular(Exception):
    """Why a series is no volume."""


@dataclass(frozen=True)
class SliceNumbers:
    """Where the pixels of a slice lie and what they mean: HU = slope * stored value + intercept."""

    rows: int  # pixels along an image column
    columns: int
    spacing: tuple[float, float]  # distance of rows and of columns, mm
    position: NDArray[np.float64]  # centre of the first pixel, mm (LPS)
    orientation: NDArray[np.float64]  # unit vectors along an image row and along an image column, [2, 3] (LPS)
    slope: float
    intercept: float
    storage: tuple[int, int, int]  # bits of a pixel in the file, bits that count, and 1 for signed values


def name_of(header: Header) -> str:
    """Name of a header's file."""
    return os.path.basename(str(header.filename))


def numbers_of(header: Header) -> SliceNumbers:
    """Parse the numbers of a slice; raise Irregular, with file, tag and value, if one is missing or cannot be meant."""
    with pydicom.config.disable_value_validation():  # its warnings would precede the refusal
        rows, columns = (_integer(header, tag, range(1, 65536)) for tag in ("Rows", "Columns"))
        height, width = _decimals(header, "PixelSpacing", 2)
        if min(height, width) <= 0:
            raise _refusal(header, "PixelSpacing", "two numbers above 0")
        orientation = np.array(_decimals(header, "ImageOrientationPatient", 6)).reshape(2, 3)
        if np.abs(orientation @ orientation.T - np.eye(2)).max() > 2 * COSINE_TOLERANCE:
            raise _refusal(header, "ImageOrientationPatient", "two directions of length 1 at right angles")
        position = np.array(_decimals(header, "ImagePositionPatient", 3))
        (slope,), (intercept,) = (_decimals(header, tag, 1) for tag in ("RescaleSlope", "RescaleIntercept"))
        if slope == 0:
            raise _refusal(header, "RescaleSlope", "a number other than 0")
        if str(header.get("RescaleType") or "HU").strip() not in ("HU", "HU_MOD", "US"):  # the last: not specified
            raise _refusal(header, "RescaleType", "HU: these are other values, such as concentrations")
        storage = _storage(header)
    _check_length(header, rows * columns * storage[0] // 8)
    return SliceNumbers(rows, columns, (height, width), position, orientation, slope, intercept, storage)


def _storage(header: Header) -> tuple[int, int, int]:
    if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") not in MONOCHROME:
        raise _refusal(header, "PhotometricInterpretation", "MONOCHROME2 with one sample per pixel")
    allocated = _integer(header, "BitsAllocated", (8, 16, 32))
    stored = _integer(header, "BitsStored", range(1, allocated + 1))
    _integer(header, "HighBit", (stored - 1,))
    return allocated, stored, _integer(header, "PixelRepresentation", (0, 1))


def _check_length(header: Header, pixel_bytes: int) -> None:
    """Refuse a file that is too short, if its pixels are stored one by one: what is compressed has no known length."""
    syntax = header.file_meta.TransferSyntaxUID
    if syntax in UNCOMPRESSED:
        head = 8 if syntax.is_implicit_VR else 12  # tag, kind and length
        missing = header.pixel_start + head + pixel_bytes - os.path.getsize(header.filename)
        if missing > 0:
            raise Irregular(f"{name_of(header)} is cut off, {missing} bytes are missing; {AGAIN}")


def _decimals(header: Header, tag: str, count: int) -> list[float]:
    value = _value(header, tag)
    listed = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    texts = [str(text).strip(" \0") for text in listed]
    numbers = [float(text) for text in texts if DECIMAL.fullmatch(text)]
    if len(texts) != count or len(numbers) != count or not all(map(math.isfinite, numbers)):
        wanted = "a number" if count == 1 else f"{count} numbers"
        raise _refusal(header, tag, f"{wanted} with a decimal point")
    return numbers


def _integer(header: Header, tag: str, allowed: range | tuple[int, ...]) -> int:
    value = _value(header, tag)
    if not isinstance(value, int) or value not in allowed:
        wanted = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
        raise _refusal(header, tag, wanted)
    return value


def _value(header: Header, tag: str) -> Any:
    try:
        value = header.get(tag)
    except Exception as error:  # the parser may fail at any damaged value
        raise Irregular(f"{tag} of {name_of(header)} cannot be read ({error}); {AGAIN}") from error
    if value is None or value == "":
        unknown = "place in the body is unknown" if tag in PLACE else "values may not be HU"
        raise Irregular(f"{name_of(header)} has no {tag}, so its {unknown}; export it again")
    return value


def _refusal(header: Header, tag: str, wanted: str) -> Irregular:
    value = header.get(tag)
    shown = value if isinstance(value, (str, int, float)) or value is None else "\\".join(map(str, value))
    return Irregular(f"{tag} of {name_of(header)} is '{shown}', expected {wanted}; export it again")
