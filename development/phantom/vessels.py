"""Aorta, inferior vena cava, portal and splenic veins, the branches that are not contoured, and the adrenal glands."""

from __future__ import annotations

import numpy as np

from development.phantom.canvas import Canvas
from development.phantom.shapes import Balls, Point, tube
from development.phantom.tissues import Tissue
from development.phantom.viscera import Kidney

_BONE = (Tissue.CORTICAL_BONE, Tissue.MARROW, Tissue.DISC)
_SOFT = tuple(tissue for tissue in Tissue if tissue not in _BONE)


def paint_veins(canvas: Canvas, kidneys: tuple[Kidney, Kidney], rng: np.random.Generator) -> None:
    """Paint inferior vena cava, portal and splenic veins, and the contrast-filled branches that belong to no organ."""
    right, left = (kidney.hilum() for kidney in kidneys)
    canvas.paint(tube([right, (38, -22, right[2] + 4), (22, -14, 2)], 4.5), Tissue.VEIN, over=_SOFT)
    canvas.paint(tube([left, (-34, -14, 8), (-6, -3, 10), (18, -12, 8)], 4.5), Tissue.VEIN, over=_SOFT)
    mesenteric = tube([(12, 9, 22), (14, 14, -12), (16, 18, -50), (18, 22, -100)], [6.0, 5.5, 5.0, 4.0])
    canvas.paint(mesenteric, Tissue.VEIN, over=_SOFT)
    size = rng.uniform(0.9, 1.12)
    splenic: list[Point] = [(-76, -34, 56), (-58, -26, 50), (-42, -13, 42), (-20, 1, 34), (0, 7, 27), (12, 8, 24)]
    portal: list[Point] = [(12, 8, 24), (22, 9, 38), (34, 10, 54), (44, 10, 66)]
    canvas.paint(tube(splenic, np.array([3.5, 4.0, 4.3, 4.6, 5.0, 6.5]) * size), *_portal(), over=_SOFT)
    canvas.paint(tube(portal, np.array([7.0, 7.5, 7.5, 7.0]) * size), *_portal(), over=_SOFT)
    canvas.paint(tube([(44, 10, 66), (62, 6, 74), (84, 0, 76)], [6.5, 5.5, 3.5]), *_portal(), over=_SOFT)
    canvas.paint(tube([(44, 10, 66), (30, 22, 78), (14, 36, 86)], [5.5, 5.0, 3.5]), *_portal(), over=_SOFT)
    cava: list[Point] = [(14, -16, -96), (18, -16, -50), (20, -15, 5), (23, -12, 50), (25, -8, 100), (22, 4, 142)]
    radii = np.array([8.5, 9.0, 9.5, 10.5, 11.0, 11.0]) * rng.uniform(0.88, 1.08)
    chain = tube(cava, radii)
    # Flattened from front to back: two parallel tubes beside each other.
    for shift in (-2.5, 2.5):
        canvas.paint(chain.moved((shift, 0, 0), 0.88), Tissue.VEIN, "inferior_vena_cava", over=_SOFT)
    for side in (-1.0, 1.0):
        iliac = tube([(14, -16, -96), (14 + side * 16, -18, -118), (14 + side * 34, -16, -150)], 7.0)
        canvas.paint(iliac, Tissue.VEIN, over=[Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.BOWEL_WALL])


def _portal() -> tuple[Tissue, str]:
    return Tissue.PORTAL_VEIN, "portal_and_splenic_veins"


def paint_arteries(canvas: Canvas, kidneys: tuple[Kidney, Kidney], rng: np.random.Generator) -> None:
    """Paint the aorta down to its bifurcation, its branches (not contoured) and some calcified plaques."""
    width = rng.uniform(0.9, 1.15)
    for kidney in kidneys:
        hilum = np.asarray(kidney.hilum()) + (0, -4, 4)
        canvas.paint(tube([(-8, -16, 10), (kidney.side * 24, -26, 8), hilum], 2.8), Tissue.ARTERY, over=_SOFT)
    canvas.paint(tube([(-8, -10, 26), (-7, 4, 14), (-4, 12, -30), (0, 16, -90)], 3.6), Tissue.ARTERY, over=_SOFT)
    canvas.paint(tube([(-8, -10, 44), (-6, 6, 46), (14, 12, 46), (30, 14, 50)], 3.2), Tissue.ARTERY, over=_SOFT)
    for side in (-1.0, 1.0):
        iliac = tube([(-4, -15, -86), (-4 + side * 14, -12, -108), (-4 + side * 32, -10, -145)], 5.5)
        canvas.paint(iliac, Tissue.ARTERY, over=[Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.BOWEL_WALL, Tissue.VEIN])
    path: list[Point] = [
        (-22, -36, 260),
        (-20, -34, 180),
        (-14, -27, 120),
        (-10, -19, 65),
        (-8, -16, 0),
        (-4, -15, -86),
    ]
    aorta = tube(path, np.array([12.5, 12.0, 11.5, 10.5, 9.5, 8.5]) * width)
    canvas.paint(aorta, Tissue.ARTERY, "aorta", over=_SOFT)
    for _ in range(rng.poisson(2.0)):
        ball = int(rng.integers(len(aorta.radii)))
        angle = rng.uniform(0, 2 * np.pi)
        rim = aorta.centres[ball] + (aorta.radii[ball] - 1) * np.array([np.cos(angle), np.sin(angle), 0])
        plaque = Balls(rim[None], np.array([rng.uniform(1.5, 2.5)]))
        canvas.paint(plaque, Tissue.CALCIFICATION, over=[Tissue.ARTERY], relabel=False)


def paint_adrenals(canvas: Canvas, kidneys: tuple[Kidney, Kidney], rng: np.random.Generator) -> None:
    """Paint the adrenal glands, each as two thin limbs that open backwards over the kidney's upper pole."""
    for kidney in kidneys:
        side = kidney.side
        pole = kidney.solid.at((0, 0, 1))
        apex = pole + (-side * (14 if side > 0 else 15), 22 if side > 0 else 25, rng.uniform(2, 6))
        gland = _adrenal(apex, side, rng)
        # Retroperitoneal fat parts the gland from the liver, thinly enough that partial volume blurs it.
        canvas.paint(Balls(gland.centres, gland.radii + 1.5), Tissue.VISCERAL_FAT, over=[Tissue.LIVER, Tissue.SPLEEN])
        canvas.paint(gland, Tissue.ADRENAL, kidney_to_adrenal(kidney), over=_glands_place())


def kidney_to_adrenal(kidney: Kidney) -> str:
    """Return the name of the adrenal gland on a kidney's side."""
    return kidney.organ.replace("kidney", "adrenal_gland")


def _glands_place() -> tuple[Tissue, ...]:
    kept = (*_BONE, Tissue.ARTERY, Tissue.VEIN, Tissue.PORTAL_VEIN, Tissue.KIDNEY_CORTEX)
    return tuple(tissue for tissue in Tissue if tissue not in kept)


def _adrenal(apex: Point, side: float, rng: np.random.Generator) -> Balls:
    length, thickness = rng.uniform(14, 18), rng.uniform(2.5, 3.1)
    limbs = (np.array([-side * 0.25, -1.0, 0.0]), np.array([side * 0.75, -0.75, 0.0]))
    centres = []
    for height in np.arange(-12.0, 12.1, 1.5):
        # The limbs are longest below and shrink to the apex of the gland above.
        reach = length * (0.75 - 0.45 * height / 12.0)
        for limb in limbs:
            for along in np.arange(0.0, reach, 1.5):
                centres.append(np.asarray(apex) + along * limb + (0.0, -0.15 * height, height))
    return Balls(np.asarray(centres), np.full(len(centres), thickness))
