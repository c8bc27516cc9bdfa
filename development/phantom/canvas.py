"""The voxel grid of one case, on which the anatomy is painted tissue by tissue."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from development.phantom.deformation import Deformation
from development.phantom.shapes import Balls, Ellipsoid, Solid
from development.phantom.tissues import CLASS_INDEX, Tissue

Box = tuple[slice, slice, slice]

FEW_COMPARISONS = 200_000
"""Up to so many (ball, voxel) pairs it is faster to compare them all at once than to visit one ball after the other."""


class Canvas:
    """Tissue map and label map of one case, axes (x, y, z) to the right, anterior and superior.

    Painting later overrides painting earlier, except where ``over`` restricts it to some tissues. That is how organs
    get their contacts: a liver painted over fat alone fills the dome of the diaphragm, and a kidney painted after it
    leaves its impression.

    Args:
        axes: coordinates (mm) of the voxel centres along x, y and z.
        deformation: deformation from the reference person to this case.
    """

    def __init__(self, axes: tuple[NDArray[np.float64], ...], deformation: Deformation) -> None:
        self.axes = axes
        self.deformation = deformation
        self.spacing = np.array([axis[1] - axis[0] for axis in axes])
        self.reference = deformation.backward(axes)
        shape = self.reference.shape[1:]
        self.tissue = np.zeros(shape, dtype=np.uint8)
        self.label = np.zeros(shape, dtype=np.uint8)

    def paint(
        self,
        shape: Ellipsoid | Solid | Balls,
        tissue: Tissue,
        organ: str | None = None,
        over: Collection[Tissue] | None = None,
        relabel: bool = True,
    ) -> None:
        """Paint one solid.

        Args:
            shape: shape in reference coordinates.
            tissue: tissue that fills it.
            organ: its name if it is one of the 13 organs; everything else becomes background.
            over: paint only where one of these tissues is now; default anywhere.
            relabel: if False, the label map stays as it is (a vessel inside the liver is liver).
        """
        if isinstance(shape, Balls):
            box, inside = self._inside_balls(shape)
        else:
            box = self._box(*shape.bounds())
            inside = shape.inside(self.reference[(slice(None), *box)])
        if inside.size == 0:
            return
        if over is not None:
            allowed = np.zeros(len(Tissue), dtype=np.bool_)
            allowed[list(over)] = True
            inside &= allowed[self.tissue[box]]
        self.tissue[box][inside] = tissue
        if relabel:
            self.label[box][inside] = 0 if organ is None else CLASS_INDEX[organ]

    def fill_with_gas(self, lumen: Tissue, fraction: float) -> None:
        """Turn the uppermost part of all voxels of one tissue into gas, as in a patient who lies on the back."""
        y = np.nonzero(self.tissue == lumen)[1]
        if y.size and fraction > 0:
            level = int(np.quantile(y, 1.0 - fraction))
            above = self.tissue[:, level:]
            above[above == lumen] = Tissue.GAS

    def _box(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> Box:
        steps = np.array(np.meshgrid([0, 0.5, 1], [0, 0.5, 1], [0, 0.5, 1])).reshape(3, -1).T
        world = self.deformation.forward(lower + steps * (upper - lower))
        return self._slices(world.min(axis=0) - 6.0, world.max(axis=0) + 6.0)

    def _slices(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> Box:
        first, second, third = (
            slice(int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high, side="right")))
            for axis, low, high in zip(self.axes, lower, upper, strict=True)
        )
        return first, second, third

    def _inside_balls(self, balls: Balls) -> tuple[Box, NDArray[np.bool_]]:
        """Rasterise balls around the deformed centres: no distance map over the whole grid is needed."""
        centres = self.deformation.forward(balls.centres)
        # On very coarse test grids a thin gland would fall between the voxels.
        radii = np.maximum(balls.radii, 0.45 * float(self.spacing.max()))
        box = self._slices((centres - radii[:, None]).min(axis=0), (centres + radii[:, None]).max(axis=0))
        axes = [axis[part] for axis, part in zip(self.axes, box, strict=True)]
        squares = [(axis - centres[:, i, None]) ** 2 for i, axis in enumerate(axes)]
        limit = radii**2
        if len(radii) * np.prod([len(axis) for axis in axes]) < FEW_COMPARISONS:
            x, y, z = squares
            distance = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
            return box, np.asarray((distance <= limit[:, None, None, None]).any(axis=0))
        inside = np.zeros([len(axis) for axis in axes], dtype=np.bool_)
        low = [np.searchsorted(axis, centres[:, i] - radii) for i, axis in enumerate(axes)]
        high = [np.searchsorted(axis, centres[:, i] + radii, side="right") for i, axis in enumerate(axes)]
        for ball in range(len(radii)):
            part = tuple(slice(low[i][ball], high[i][ball]) for i in range(3))
            x, y, z = (squares[i][ball, part[i]] for i in range(3))
            inside[part] |= (x[:, None, None] + y[None, :, None] + z[None, None, :]) <= limit[ball]
        return box, inside
