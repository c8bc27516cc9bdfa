"""The solids that the anatomy is built from: ellipsoids and chains of balls (tubes, sheets), in mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

Point = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Ellipsoid:
    """A (super)ellipsoid ``|x/a|^p + |y/b|^p + |z/c|^p <= 1``, turned about its centre.

    Attributes:
        centre: (x, y, z) in mm.
        radii: half axes (a, b, c) in mm.
        turn: degrees about the axes x, y, z, in this order.
        power: p; 2 is an ellipsoid, larger is boxier.
    """

    centre: Point
    radii: Point
    turn: Point = (0.0, 0.0, 0.0)
    power: float = 2.0

    def matrix(self) -> NDArray[np.float64]:
        """Return the rotation (3, 3) from the ellipsoid's own axes to the reference frame."""
        return np.asarray(Rotation.from_euler("xyz", self.turn, degrees=True).as_matrix())

    def at(self, unit: Point) -> NDArray[np.float64]:
        """Return the reference point of the coordinates (u, v, w) in units of the half axes: (0, 0, 1) is the top."""
        return np.asarray(np.asarray(self.centre) + self.matrix() @ (np.asarray(unit) * np.asarray(self.radii)))

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and upper corner of a box (mm) around the solid."""
        turned = self.matrix() * np.asarray(self.radii)
        # A boxier solid reaches into the corners of its own box, an ellipsoid does not.
        half = np.linalg.norm(turned, axis=1) if self.power <= 2 else np.abs(turned).sum(axis=1)
        centre = np.asarray(self.centre)
        return centre - half, centre + half

    def inside(self, coordinates: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which of the points (3, ...) lie inside."""
        centre = np.asarray(self.centre, dtype=np.float32).reshape(3, *[1] * (coordinates.ndim - 1))
        unturn = (self.matrix() / np.asarray(self.radii)).T.astype(np.float32)
        own = np.tensordot(unturn, coordinates - centre, axes=(1, 0))
        if self.power == 2.0:
            return np.asarray(np.einsum("c...,c...->...", own, own) <= 1.0)
        return np.asarray((np.abs(own) ** np.float32(self.power)).sum(axis=0) <= 1.0)


@dataclass(frozen=True)
class Solid:
    """A union of ellipsoids, less another union of ellipsoids."""

    parts: Sequence[Ellipsoid]
    less: Sequence[Ellipsoid] = ()

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and upper corner of a box (mm) around the solid."""
        corners = [part.bounds() for part in self.parts]
        return np.min([lower for lower, _ in corners], axis=0), np.max([upper for _, upper in corners], axis=0)

    def inside(self, coordinates: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which of the points (3, ...) lie inside."""
        found = np.zeros(coordinates.shape[1:], dtype=np.bool_)
        for part in self.parts:
            found |= part.inside(coordinates)
        for part in self.less:
            found &= ~part.inside(coordinates)
        return found


@dataclass(frozen=True)
class Balls:
    """A union of balls.

    Attributes:
        centres: (balls, 3) in mm.
        radii: (balls,) in mm.
    """

    centres: NDArray[np.float64]
    radii: NDArray[np.float64]

    def shrunk(self, thickness: float) -> Balls:
        """Return the balls with a wall of this thickness (mm) taken off, at least a third of each radius left."""
        return Balls(self.centres, np.maximum(self.radii - thickness, self.radii / 3))

    def moved(self, shift: Point, scale: float = 1.0) -> Balls:
        """Return the balls moved by a shift (mm), their radii times a scale."""
        return Balls(self.centres + np.asarray(shift), self.radii * scale)


def tube(points: Sequence[Point], radii: Point | float) -> Balls:
    """Return the tube around the smooth curve through some points.

    Args:
        points: at least two (x, y, z) in mm.
        radii: radius in mm at every point, or one for all; between the points it is interpolated linearly.

    Raises:
        ValueError: if there are fewer than two points, or not as many radii as points.
    """
    path = np.asarray(points, dtype=np.float64)
    if path.ndim != 2 or path.shape[0] < 2 or path.shape[1] != 3:
        raise ValueError(f"a tube needs at least two points (x, y, z), got an array of shape {path.shape}")
    at_points = np.asarray(radii, dtype=np.float64)
    if at_points.ndim == 0:
        at_points = np.full(len(path), at_points)
    if len(at_points) != len(path):
        raise ValueError(f"got {len(at_points)} radii for {len(path)} points: give one per point, or a single number")
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    # Balls 0.4 radii apart leave dents of 2 % of the radius: 1 - sqrt(1 - 0.2^2).
    step = max(float(at_points.min()) / 2.5, 1.2)
    along = np.linspace(0.0, lengths[-1], int(np.ceil(lengths[-1] / step)) + 1)
    return Balls(CubicSpline(lengths, path)(along), np.interp(along, lengths, at_points))


def join(chains: Sequence[Balls]) -> Balls:
    """Return the union of several chains of balls."""
    return Balls(np.concatenate([c.centres for c in chains]), np.concatenate([c.radii for c in chains]))
