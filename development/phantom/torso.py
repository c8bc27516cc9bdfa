"""The container: body outline, skin, fat, muscles, diaphragm, lungs, heart, spine and ribs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from development.phantom.canvas import Canvas
from development.phantom.shapes import Ellipsoid, Solid, tube
from development.phantom.tissues import Tissue

SPINE_Y = -45.0
VERTEBRA_PERIOD = 33.0
_SQUARENESS = 0.35


@dataclass(frozen=True)
class Torso:
    """Sizes of one person's trunk in the reference frame, in mm.

    Attributes:
        half_width: distance from the midline to the inside of the abdominal wall.
        half_depth: distance from the mid plane to the inside of the abdominal wall.
        wall: thickness of the muscles of the wall.
        fat_side: thickness of the subcutaneous fat at the flank.
        fat_front: thickness of the subcutaneous fat in front.
        dome: height of the right dome of the diaphragm over the middle of the left kidney.
    """

    half_width: float
    half_depth: float
    wall: float
    fat_side: float
    fat_front: float
    dome: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Torso:
        """Draw the sizes of one person."""
        habitus = rng.uniform(0, 1)
        return Torso(
            half_width=134 + 8 * habitus + rng.uniform(-3, 3),
            half_depth=90 + 11 * habitus + rng.uniform(-3, 3),
            wall=rng.uniform(10, 15),
            fat_side=7 + 22 * habitus * rng.uniform(0.7, 1.0),
            fat_front=6 + 22 * habitus * rng.uniform(0.7, 1.0),
            dome=rng.uniform(140, 158),
        )

    def outer_half_axes(self) -> tuple[float, float]:
        """Return the half width and half depth of the skin in mm."""
        return self.half_width + self.wall + self.fat_side, self.half_depth + self.wall + self.fat_front

    def ring(self, out: float, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points (angles, 2) of the wall, ``out`` mm outside of its inner surface; angle 0 is the right."""
        x, y = (self.half_width + out) * np.cos(angle), (self.half_depth + out) * np.sin(angle)
        # The wall is squarer than an ellipse; this first-order radial stretch follows its outline within 2 mm.
        stretch = 1 + 0.5 * _SQUARENESS * np.cos(angle) ** 2 * np.sin(angle) ** 2
        return np.stack([x * stretch, y * stretch], axis=1)


def _outline(coordinates: NDArray[np.float32], half_width: float, half_depth: float) -> NDArray[np.bool_]:
    """Return the inside of a rounded-square cylinder ``u + v - s u v <= 1`` with u = (x/a)^2, v = (y/b)^2."""
    u = (coordinates[0] * np.float32(1 / half_width)) ** 2
    v = (coordinates[1] * np.float32(1 / half_depth)) ** 2
    return np.asarray(u + v - np.float32(_SQUARENESS) * u * v <= 1)


def _domes(torso: Torso, thickness: float) -> Solid:
    """Return what lies under the diaphragm, less a layer of some thickness (mm)."""
    base, width, depth = 46.0, torso.half_width, torso.half_depth
    sides = [(1.0, torso.dome - base, 2.5), (-1.0, torso.dome - base - 20, 2.1)]
    # Each dome reaches from just across the midline to the wall.
    parts = [
        Ellipsoid(
            (side * 0.50 * width, 4, base),
            (0.53 * width - thickness, 0.97 * depth - thickness, height - thickness),
            power=power,
        )
        for side, height, power in sides
    ]
    middle = Ellipsoid((0, 14, base), (70 - thickness, 0.84 * depth - thickness, torso.dome - base - 32 - thickness))
    return Solid([*parts, middle])


def paint_torso(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    """Paint everything that holds the organs; the abdominal cavity is left as visceral fat."""
    reference, tissue = canvas.reference, canvas.tissue
    half_width, half_depth = torso.outer_half_axes()
    tissue[_outline(reference, half_width, half_depth)] = Tissue.SKIN
    tissue[_outline(reference, half_width - 2.2, half_depth - 2.2)] = Tissue.SUBCUTANEOUS_FAT
    tissue[_outline(reference, torso.half_width + torso.wall, torso.half_depth + torso.wall)] = Tissue.MUSCLE
    cavity = _outline(reference, torso.half_width, torso.half_depth)
    tissue[cavity] = Tissue.VISCERAL_FAT
    _paint_chest(canvas, torso, cavity)
    _paint_muscles(canvas, torso)
    _paint_spine(canvas)
    _paint_ribs(canvas, torso, rng)


def _paint_chest(canvas: Canvas, torso: Torso, cavity: NDArray[np.bool_]) -> None:
    reference, tissue = canvas.reference, canvas.tissue
    above = cavity & (reference[2] > 46.0)
    under, under_muscle = _domes(torso, 0.0), _domes(torso, 3.0)
    lowest = int(np.argmax(above.any(axis=(0, 1)))) if above.any() else above.shape[2]
    chest = reference[:, :, :, lowest:]
    beneath, beneath_muscle = under.inside(chest), under_muscle.inside(chest)
    part = tissue[:, :, lowest:]
    part[above[:, :, lowest:] & ~beneath] = Tissue.LUNG
    part[above[:, :, lowest:] & beneath & ~beneath_muscle] = Tissue.MUSCLE
    # Mediastinum around the spine, the aorta and the esophagus, and the fat under the heart.
    # It has a fat of its own, which no abdominal organ is painted over.
    canvas.paint(Ellipsoid((-4, -38, 160), (30, 34, 115)), Tissue.MEDIASTINAL_FAT, over=[Tissue.LUNG])
    heart = Ellipsoid((-24, 26, torso.dome + 22), (62, 46, 46), turn=(0, 14, -20))
    pericardium = Ellipsoid(heart.centre, np.asarray(heart.radii) + 5, heart.turn)
    canvas.paint(pericardium, Tissue.MEDIASTINAL_FAT, over=[Tissue.LUNG])
    canvas.paint(heart, Tissue.HEART, over=[Tissue.MEDIASTINAL_FAT])


def _paint_muscles(canvas: Canvas, torso: Torso) -> None:
    inner = [Tissue.VISCERAL_FAT, Tissue.MEDIASTINAL_FAT, Tissue.SUBCUTANEOUS_FAT, Tissue.LUNG]
    depth = torso.half_depth
    for side in (-1.0, 1.0):
        psoas = tube(
            [(side * 20, -40, 25), (side * 31, -42, -20), (side * 40, -38, -70), (side * 50, -28, -130)],
            [5, 14, 20, 23],
        )
        crus = tube(
            [(side * 9, -27, 118), (side * 13, -26, 70), (side * 13, -26, 25), (side * 9, -27, -10)], [6, 6, 5, 3]
        )
        lumborum = tube([(side * 54, -depth + 12, 10), (side * 62, -depth + 14, -110)], [8, 13])
        erector = Ellipsoid((side * 34, -depth - 3, 30), (31, 20, 400), turn=(0, 0, -side * 8))
        rectus = Ellipsoid((side * 36, depth + 1, -40), (33, 11, 190))
        for shape in (psoas, crus, lumborum, erector, rectus):
            canvas.paint(shape, Tissue.MUSCLE, over=inner)


def _paint_spine(canvas: Canvas) -> None:
    y = SPINE_Y
    for level in range(-4, 8):
        z = level * VERTEBRA_PERIOD - 6.0
        for side in (-1.0, 1.0):
            canvas.paint(tube([(side * 14, y - 16, z + 2), (side * 17, y - 32, z - 4)], 6.0), Tissue.CORTICAL_BONE)
            transverse = tube([(side * 16, y - 27, z + 2), (side * 40, y - 34, z + 4)], 4.0)
            canvas.paint(transverse, Tissue.CORTICAL_BONE)
        canvas.paint(tube([(-13, y - 32, z - 4), (0, y - 40, z - 6), (13, y - 32, z - 4)], 4.0), Tissue.CORTICAL_BONE)
        canvas.paint(tube([(0, y - 40, z - 6), (0, y - 66, z - 15)], 4.0), Tissue.CORTICAL_BONE)
        canvas.paint(Ellipsoid((0, y, z), (23.5, 17.5, 15), power=2.9), Tissue.CORTICAL_BONE)
        canvas.paint(Ellipsoid((0, y, z), (21, 15, 12.5), power=2.9), Tissue.MARROW)
        canvas.paint(Ellipsoid((0, y, z + VERTEBRA_PERIOD / 2), (22.5, 16.5, 4.5), power=2.6), Tissue.DISC)
    canvas.paint(tube([(0, y - 24, -170), (0, y - 24, 40), (0, y - 24, 250)], 8.0), Tissue.SPINAL_CANAL)


def _paint_ribs(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    """Paint ribs that fall as they run forward; the last ones end at the flank."""
    spread = rng.uniform(-4, 4)
    for rib, (height, reach) in enumerate(
        [(20, 0.55), (52, 0.9), (84, 1.35), (114, 1.6), (144, 1.75), (174, 1.85), (204, 1.9)]
    ):
        # From beside the spine (angle -1.2 rad) over the flank (0) to the front; reach is in radians.
        along = np.linspace(0.0, 1.0, 12)
        angle = -1.2 + along * (reach + 0.45)
        z = height + spread - 62.0 * along * (0.5 + 0.5 * min(rib, 3) / 3)
        ring = torso.ring(0.45 * torso.wall, angle)
        for side in (-1.0, 1.0):
            path = np.column_stack([side * ring[:, 0], ring[:, 1], z])
            canvas.paint(tube(list(path), 4.6), Tissue.CORTICAL_BONE)
            canvas.paint(tube(list(path), 2.4), Tissue.MARROW)


def paint_table(canvas: Canvas) -> None:
    """Paint the scanner's table as a thin curved shell under the body."""
    body = canvas.tissue != Tissue.AIR
    x = canvas.axes[0] - canvas.axes[0].mean()
    lowest = int(np.argmax(body.any(axis=(0, 2))))
    top = canvas.axes[1][lowest] - 3.0 + 0.0008 * x**2
    depth = top[:, None] - canvas.axes[1][None, :]
    shell = (depth >= 0) & (depth < max(3.0, float(canvas.spacing[1])))
    canvas.tissue[shell[:, :, None] & ~body] = Tissue.TABLE
