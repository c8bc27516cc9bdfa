"""From a tissue map to a CT volume in HU: texture, partial volume, blur and correlated noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from development.phantom.canvas import Canvas
from development.phantom.deformation import upsample_field
from development.phantom.tissues import HOUNSFIELD_AIR, draw_hounsfield, texture_amplitudes

TEXTURE_KNOTS_MM = 6.0
HIGHEST_HOUNSFIELD = 2000


@dataclass(frozen=True)
class Scanner:
    """How one case is imaged.

    Attributes:
        noise: standard deviation of the noise in HU.
        grain: correlation of the noise in pixels (standard deviation of the Gaussian that makes it).
        blur_in_plane: standard deviation of the in-plane point spread in mm.
        slice_profile: standard deviation of the slice profile as a part of the slice spacing.
    """

    noise: float
    grain: float
    blur_in_plane: float
    slice_profile: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Scanner:
        """Draw a protocol: 15 to 30 HU of noise, the range of routine abdominal CT at these spacings (our choice)."""
        return Scanner(
            noise=rng.uniform(15.0, 30.0),
            grain=rng.uniform(0.45, 0.75),
            blur_in_plane=rng.uniform(0.7, 1.3),
            slice_profile=rng.uniform(0.30, 0.45),
        )


def image_canvas(canvas: Canvas, phase: str, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.int16]:
    """Image the painted anatomy.

    Args:
        canvas: tissue map of the case, axes (x, y, z).
        phase: contrast phase.
        scanner: noise and resolution.
        rng: the source of HU, texture and noise.

    Returns:
        HU, axes (x, y, z), air at -1000.
    """
    hounsfield = draw_hounsfield(phase, rng)[canvas.tissue]
    hounsfield += texture_amplitudes()[canvas.tissue] * _texture(canvas, rng)
    sigma = [
        scanner.blur_in_plane / canvas.spacing[0],
        scanner.blur_in_plane / canvas.spacing[1],
        scanner.slice_profile,
    ]
    hounsfield = ndimage.gaussian_filter(hounsfield, sigma, truncate=2.5)
    hounsfield += _noise(hounsfield.shape, scanner, rng)
    return np.asarray(np.clip(np.rint(hounsfield), HOUNSFIELD_AIR, HIGHEST_HOUNSFIELD), dtype=np.int16)


def _texture(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random field of unit variance, axes (x, y, z)."""
    start = np.array([axis[0] for axis in canvas.axes])
    count = [int((axis[-1] - axis[0]) / TEXTURE_KNOTS_MM) + 5 for axis in canvas.axes]
    control = rng.standard_normal(count, dtype=np.float32)
    # The cubic B-spline basis damps white control points to a standard deviation of 0.33 on average.
    return upsample_field(control, canvas.axes, start, TEXTURE_KNOTS_MM) / np.float32(0.33)


def _noise(shape: tuple[int, ...], scanner: Scanner, rng: np.random.Generator) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (scanner.grain, scanner.grain, 0.0), truncate=2.5, mode="wrap")
    return np.asarray(noise * np.float32(scanner.noise / noise.std()))
