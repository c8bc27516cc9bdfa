"""The large organs: liver, spleen, stomach with esophagus, kidneys, pancreas with duodenum, gallbladder.

Positions in the reference frame and sizes follow expert label maps of real people (see ``tests/test_phantom.py`` for
the measured ranges) and anatomy textbooks; the shapes themselves are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from development.phantom.canvas import Canvas
from development.phantom.shapes import Balls, Ellipsoid, Point, Solid, join, tube
from development.phantom.tissues import Tissue

_BOWEL = (Tissue.BOWEL_WALL, Tissue.BOWEL_FLUID, Tissue.STOOL, Tissue.GAS)
_FREE = (Tissue.VISCERAL_FAT, *_BOWEL)


def _about(rng: np.random.Generator, point: Point, spread: float) -> tuple[float, float, float]:
    x, y, z = np.asarray(point) + rng.uniform(-spread, spread, 3)
    return float(x), float(y), float(z)


@dataclass(frozen=True)
class Kidney:
    """One kidney; ``side`` is +1 for the right and -1 for the left."""

    side: float
    solid: Ellipsoid

    @staticmethod
    def draw(side: float, rng: np.random.Generator) -> Kidney:
        """Draw a kidney; the right one lies lower, both lean with the upper pole to the spine and to the back."""
        radii = np.array([27.0, 25.5, 53.0]) * rng.uniform(0.88, 1.08) * rng.uniform(0.95, 1.05, 3)
        centre = (side * 66.0, -52.0, -12.0 if side > 0 else 0.0)
        turn = (rng.uniform(4, 10), -side * rng.uniform(8, 16), side * rng.uniform(15, 35))
        return Kidney(side, Ellipsoid(_about(rng, centre, 3.5), radii, turn, power=2.3))

    @property
    def organ(self) -> str:
        """The organ's name in the label map."""
        return "right_kidney" if self.side > 0 else "left_kidney"

    def hilum(self) -> tuple[float, float, float]:
        """Return where the vessels leave, at the medial and slightly anterior side."""
        x, y, z = self.solid.at((-self.side * 0.75, 0.2, 0.0))
        return float(x), float(y), float(z)


def paint_liver(canvas: Canvas, dome: float, rng: np.random.Generator) -> None:
    """Paint the liver into the right dome of the diaphragm: both lobes and caudate, less the visceral surface."""
    size = rng.uniform(0.88, 1.05)
    right = Ellipsoid((80, -4, 58), (np.array([68, 86, 94]) + [0, 0, dome - 150]) * size, turn=(0, -6, 8), power=2.2)
    left_reach = rng.uniform(62, 92)
    left = Ellipsoid((2, 46, 84), (left_reach, 38, 38), turn=(0, -10, -8))
    caudate = Ellipsoid((20, -2, 66), (17, 19, 28))
    beneath = Ellipsoid(_about(rng, (-6, 10, -50), 3), (81, 116, 112))
    posterior = Ellipsoid((0, -70, 70), (58, 53, 130))
    lateral_left = Ellipsoid((-75, -35, 70), (90, 62, 70))
    canvas.paint(Solid([right, left], [beneath, posterior, lateral_left]), Tissue.LIVER, "liver", over=_FREE)
    canvas.paint(caudate, Tissue.LIVER, "liver", over=_FREE)
    for end in ((100, -30, 70), (80, 45, 95), (10, 50, 100)):
        middle = (np.asarray(end) + (24, -6, 128)) / 2 + rng.uniform(-8, 8, 3)
        vein = tube([end, middle, (24, -8, 126)], [2.0, 3.0, 4.5])
        canvas.paint(vein, Tissue.VEIN, over=[Tissue.LIVER], relabel=False)
    for _ in range(rng.poisson(0.6)):
        cyst = Ellipsoid(_about(rng, (85, 10, 70), 45), (rng.uniform(4, 13),) * 3)
        canvas.paint(cyst, Tissue.CYST, over=[Tissue.LIVER], relabel=False)


def paint_spleen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the spleen under the left dome, hollowed towards the stomach and the kidney."""
    radii = np.array([31.0, 47.0, 54.0]) * rng.uniform(0.82, 1.18) * rng.uniform(0.95, 1.05, 3)
    spleen = Ellipsoid(_about(rng, (-96, -44, 58), 4), radii, turn=(18, 10, 28), power=2.3)
    hollow = Ellipsoid((-58, -16, 62), (28, 32, 58), turn=(0, 0, 25))
    canvas.paint(Solid([spleen], [hollow]), Tissue.SPLEEN, "spleen", over=_FREE)


def paint_stomach_and_esophagus(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint fundus, body, antrum and pylorus with contents and gas, and the esophagus that enters at the cardia."""
    fill = rng.uniform(0.68, 1.12)
    path: list[Point] = [
        _about(rng, (-54, -14, 106), 3),
        _about(rng, (-62, 0, 90), 4),
        _about(rng, (-66, 26, 56), 5),
        _about(rng, (-46, 50, 26), 6),
        _about(rng, (-10, 56, 14), 5),
        _about(rng, (26, 46, 16), 3),
    ]
    outer = tube(path, [34 * fill**0.6, 36 * fill**0.8, 31 * fill, 25 * fill, 18 * fill**0.5, 10])
    places = (*_FREE, Tissue.LIVER, Tissue.SPLEEN)
    canvas.paint(outer, Tissue.STOMACH_WALL, "stomach", over=places)
    wall = rng.uniform(3.0, 5.0) + 4.0 * (1.1 - fill)
    canvas.paint(outer.shrunk(wall), Tissue.STOMACH_CONTENT, over=[Tissue.STOMACH_WALL], relabel=False)
    canvas.fill_with_gas(Tissue.STOMACH_CONTENT, rng.uniform(0.0, 0.45))
    cardia = (-27, -10, 90)
    gullet = tube(
        [(0, -27, 260), (3, -27, 185), (0, -24, 150), (-5, -16, 118), (-14, -11, 100), cardia],
        np.array([7.5, 7.5, 8.0, 8.0, 8.0, 8.0]) * rng.uniform(0.88, 1.12),
    )
    over = [t for t in Tissue if t not in (Tissue.MARROW, Tissue.CORTICAL_BONE, Tissue.STOMACH_CONTENT, Tissue.GAS)]
    canvas.paint(gullet, Tissue.ESOPHAGUS, "esophagus", over=over)
    if rng.random() < 0.6:
        air = tube([(3, -27, 185), (0, -24, 150), (-5, -16, 118)], rng.uniform(1.5, 2.5))
        canvas.paint(air, Tissue.GAS, over=[Tissue.ESOPHAGUS], relabel=False)


def paint_kidney(canvas: Canvas, kidney: Kidney, rng: np.random.Generator) -> None:
    """Paint one kidney with its fat capsule, medulla, sinus fat and pelvis; sinus and pelvis are not kidney."""
    solid, side = kidney.solid, kidney.side
    soft = (*_FREE, Tissue.LIVER, Tissue.SPLEEN, Tissue.STOMACH_WALL, Tissue.MUSCLE)
    radii = np.asarray(solid.radii)
    capsule = Ellipsoid(solid.centre, radii + rng.uniform(0.0, 6.0), solid.turn, solid.power)
    canvas.paint(capsule, Tissue.VISCERAL_FAT, over=[t for t in soft if t != Tissue.MUSCLE])
    canvas.paint(solid, Tissue.KIDNEY_CORTEX, kidney.organ, over=soft)
    for height in (-0.62, -0.31, 0.0, 0.31, 0.62):
        for u, v in ((side * 0.45, 0.0), (side * 0.05, 0.45), (side * 0.05, -0.45)):
            pyramid = Ellipsoid(solid.at((u, v, height)), (7, 7, 7.5))
            canvas.paint(pyramid, Tissue.KIDNEY_MEDULLA, over=[Tissue.KIDNEY_CORTEX], relabel=False)
    of_kidney = [Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA]
    sinus = Ellipsoid(solid.at((-side * 0.72, 0.08, 0)), radii * (0.62, 0.30, 0.42), solid.turn)
    canvas.paint(sinus, Tissue.VISCERAL_FAT, over=of_kidney)
    pelvis = Ellipsoid(solid.at((-side * 0.66, 0.08, -0.05)), radii * (0.38, 0.17, 0.27), solid.turn)
    canvas.paint(pelvis, Tissue.RENAL_PELVIS, over=[Tissue.VISCERAL_FAT])
    if rng.random() < 0.3:
        cyst = Ellipsoid(solid.at((side * 0.8, 0.2, rng.uniform(-0.6, 0.6))), (rng.uniform(4, 11),) * 3)
        canvas.paint(cyst, Tissue.CYST, over=of_kidney, relabel=False)


def paint_pancreas_and_duodenum(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the pancreas from the head in the duodenum's C over the splenic vein to the hilum of the spleen."""
    not_bone = (*_FREE, Tissue.LIVER, Tissue.SPLEEN, Tissue.STOMACH_WALL, Tissue.KIDNEY_CORTEX)
    duodenum = tube(
        [
            (30, 42, 16),
            (47, 26, 16),
            (53, 6, -4),
            (50, 2, -30),
            (34, 3, -50),
            (4, 8, -52),
            (-26, 10, -38),
            (-34, 22, -16),
        ],
        rng.uniform(10.0, 12.5),
    )
    canvas.paint(duodenum, Tissue.BOWEL_WALL, over=[*_FREE, Tissue.LIVER])
    canvas.paint(duodenum.shrunk(rng.uniform(2.5, 5)), Tissue.BOWEL_FLUID, over=[Tissue.BOWEL_WALL])
    head: list[Point] = [(34, 8, -22), (33, 10, -6), (30, 12, 8), (18, 15, 20)]
    tail: list[Point] = [(18, 15, 20), (0, 18, 29), (-22, 13, 36), (-44, -3, 44), _about(rng, (-66, -24, 50), 4)]
    size = rng.uniform(0.88, 1.12)
    chains = [
        tube(head, np.array([9.0, 13.5, 14.0, 10.0]) * size),
        tube(head, np.array([9.0, 13.5, 14.0, 10.0]) * size).moved((-7, -2, 0), 0.9),
        tube(tail, np.array([9.5, 9.0, 10.5, 10.5, 9.0]) * size),
        tube(tail, np.array([9.5, 9.0, 10.5, 10.5, 9.0]) * size).moved((0, 2, 6), 0.95),
    ]
    chain = join(chains)
    # Lobules: the outline of the gland is uneven.
    lobules = Balls(chain.centres, chain.radii * rng.uniform(0.78, 1.10, len(chain.radii)))
    canvas.paint(lobules, Tissue.PANCREAS, "pancreas", over=not_bone)


def paint_gallbladder(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a pear of bile in its fossa under the liver, from the neck at the porta to the fundus in front."""
    size = rng.uniform(0.8, 1.25)
    pear = tube(
        [(44, 20, 30), (53, 32, 22), (63, 48, 10), _about(rng, (70, 60, 2), 3)], np.array([5.0, 9.0, 13.5, 12.5]) * size
    )
    over = (*_FREE, Tissue.LIVER)
    canvas.paint(pear, Tissue.BOWEL_WALL, "gallbladder", over=over)
    canvas.paint(pear.shrunk(0.8), Tissue.BILE, over=[Tissue.BOWEL_WALL], relabel=False)
