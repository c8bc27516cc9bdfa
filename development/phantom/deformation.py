"""From the reference person to one case: rigid pose, body size and a smooth elastic displacement.

The reference frame is in mm with +x to the right, +y anterior, +z superior (RAS+), its origin at the mid height of the
left kidney, in the middle of the body. With pose P and displacement u, the point c of the reference person lies at the
world point w where ``w + u(w) = P(c)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation

CUBIC = 3


def spline_basis(positions: NDArray[np.float64], start: float, knot_spacing: float, count: int) -> NDArray[np.float32]:
    """Return the uniform cubic B-spline basis as a matrix (positions, control points).

    Positions outside the control points' support are moved to its border, so a field continues as a constant.
    """
    knots = start + knot_spacing * (np.arange(count + CUBIC + 1) - CUBIC)
    inside = np.clip(positions, knots[CUBIC], knots[count] - 1e-6)
    return np.asarray(BSpline.design_matrix(inside, knots, CUBIC).toarray(), dtype=np.float32)


def upsample_field(
    control: NDArray[np.float32], axes: tuple[NDArray[np.float64], ...], start: NDArray[np.float64], knot_spacing: float
) -> NDArray[np.float32]:
    """Evaluate a scalar B-spline with control points (x, y, z) on the grid spanned by three coordinate axes (mm)."""
    field = control
    for axis, positions in enumerate(axes):
        basis = spline_basis(positions, float(start[axis]), knot_spacing, control.shape[axis])
        # Contracting always the first axis and appending the result restores the order x, y, z after three turns.
        field = np.tensordot(field, basis, axes=(0, 1))
    return field


@dataclass(frozen=True)
class Deformation:
    """Pose and elastic displacement of one case.

    Attributes:
        matrix: rotation times size, (3, 3).
        shift: translation in mm, (3,).
        control: displacement control points (3, x, y, z) in mm.
        start: position of the first knot in mm, (3,).
        knot_spacing: distance of the control points in mm.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    control: NDArray[np.float32]
    start: NDArray[np.float64]
    knot_spacing: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Deformation:
        """Draw a pose (a few degrees, a few mm), a body size and an elastic displacement (our choice of ranges)."""
        rotation = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * (3.0, 3.0, 7.0), degrees=True).as_matrix()
        size = rng.uniform(0.93, 1.09) * rng.uniform(0.965, 1.035, 3)
        knot_spacing = 55.0
        start = np.array([-280.0, -230.0, -220.0])
        count = (10, 9, 9)
        # A field of 4.5 mm at knots of 55 mm cannot fold: its slope stays far below one.
        control = np.clip(rng.standard_normal((3, *count)), -2.2, 2.2) * 4.5
        return Deformation(
            matrix=rotation * size,
            shift=rng.uniform(-1, 1, 3) * (6.0, 6.0, 4.0),
            control=np.asarray(control, dtype=np.float32),
            start=start,
            knot_spacing=knot_spacing,
        )

    def pose(self, reference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map reference points (points, 3) by the rigid pose and size alone."""
        return np.asarray(reference @ self.matrix.T + self.shift)

    def forward(self, reference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map reference points (points, 3) to the world, by fixed-point iteration of ``w = P(c) - u(w)``."""
        posed = self.pose(reference)
        world = posed
        for _ in range(3):
            world = posed - self._displacement_at(world)
        return world

    def backward(self, axes: tuple[NDArray[np.float64], ...]) -> NDArray[np.float32]:
        """Return the reference coordinates (3, x, y, z) of every point of the world grid spanned by three axes (mm)."""
        grid = np.empty((3, *(len(axis) for axis in axes)), dtype=np.float32)
        for component in range(3):
            grid[component] = upsample_field(self.control[component], axes, self.start, self.knot_spacing)
        # The posed coordinates are separable, so they are added by broadcasting instead of through a full mesh.
        for component in range(3):
            shape = [1, 1, 1]
            shape[component] = -1
            grid[component] += (axes[component] - self.shift[component]).astype(np.float32).reshape(shape)
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        return np.asarray(np.tensordot(inverse, grid, axes=(1, 0)))

    def _displacement_at(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the same spline at scattered points (points, 3), where one basis matrix per point would be slow."""
        # Control point i has its peak at start + (i - 1) * knot_spacing.
        last = np.array(self.control.shape[1:]) - 2
        position = np.clip((world - self.start) / self.knot_spacing + 1, 1, last).T
        values = [ndimage.map_coordinates(field, position, order=CUBIC, prefilter=False) for field in self.control]
        return np.asarray(np.stack(values, axis=1), dtype=np.float64)
