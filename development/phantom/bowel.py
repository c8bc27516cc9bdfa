"""Duodenum, small bowel and colon: no organ of the label map, but what is most easily taken for one."""

from __future__ import annotations

import numpy as np

from development.phantom.canvas import Canvas
from development.phantom.shapes import Balls, Point, tube
from development.phantom.tissues import Tissue

_FREE = (Tissue.VISCERAL_FAT,)


def paint_bowel(canvas: Canvas, half_width: float, half_depth: float, rng: np.random.Generator) -> None:
    """Paint colon and small bowel into the fat of the cavity; organs are painted over them later.

    Args:
        canvas: canvas of the case.
        half_width: inner half width of the abdominal wall in mm.
        half_depth: inner half depth of the abdominal wall in mm.
        rng: the source of loops, fillings and gas.
    """
    for _ in range(int(rng.integers(26, 42))):
        _paint_small_bowel_loop(canvas, half_width, half_depth, rng)
    _paint_mesenteric_vessels(canvas, half_depth, rng)
    side, front = half_width - 24, half_depth - 24
    ascending: list[Point] = [(side - 6, -30, -130), (side - 4, -26, -80), (side - 12, -6, -44), (side - 24, 20, -34)]
    transverse: list[Point] = [
        (side - 24, 22, -34),
        (50, front - 4, -46),
        (0, front, -52 + rng.uniform(-14, 10)),
        (-58, front - 8, -22),
        (-side + 8, 26, 18),
        (-side, -14, 34),
    ]
    descending: list[Point] = [(-side, -14, 34), (-side, -34, 4), (-side + 2, -36, -50), (-side + 6, -26, -130)]
    for path, radius in ((ascending, 22.0), (transverse, 17.0), (descending, 13.0)):
        _paint_colon(canvas, path, radius * rng.uniform(0.85, 1.15), rng)


def _paint_colon(canvas: Canvas, path: list[Point], radius: float, rng: np.random.Generator) -> None:
    chain = tube([np.asarray(p) + rng.uniform(-4, 4, 3) for p in path], radius)
    arc = np.arange(len(chain.radii)) * radius / 2.5
    # Haustra: a pouch every 25 mm.
    chain = Balls(chain.centres, chain.radii * (0.9 + 0.12 * np.cos(2 * np.pi * arc / 25)))
    canvas.paint(chain, Tissue.BOWEL_WALL, over=_FREE)
    canvas.paint(chain.shrunk(2.5), Tissue.STOOL, over=[Tissue.BOWEL_WALL])
    if rng.random() < 0.75:
        bubble = chain.shrunk(2.5).moved((0, 0.30 * radius, 0), rng.uniform(0.55, 0.8))
        present = np.sin(arc / rng.uniform(14, 30) + rng.uniform(0, 6)) > rng.uniform(-0.6, 0.3)
        if present.any():
            canvas.paint(Balls(bubble.centres[present], bubble.radii[present]), Tissue.GAS, over=[Tissue.STOOL])


def _paint_small_bowel_loop(canvas: Canvas, half_width: float, half_depth: float, rng: np.random.Generator) -> None:
    lower = np.array([-0.68 * half_width, -4.0, -120.0])
    upper = np.array([0.6 * half_width, 0.72 * half_depth, 12.0])
    start = rng.uniform(lower, upper)
    heading = rng.standard_normal(3)
    path = [start]
    for _ in range(5):
        heading = heading / np.linalg.norm(heading) + 0.8 * rng.standard_normal(3)
        path.append(np.clip(path[-1] + 27 * heading / np.linalg.norm(heading), lower, upper))
    radius = rng.uniform(8.5, 13)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    kept = [path[0], *(point for point, step in zip(path[1:], steps, strict=True) if step > 5)]
    if len(kept) < 2:
        return
    chain = tube(kept, radius)
    canvas.paint(chain, Tissue.BOWEL_WALL, over=_FREE)
    # One loop in four is collapsed: solid wall of an organ's HU.
    if rng.random() > 0.25:
        canvas.paint(chain.shrunk(2.5), Tissue.BOWEL_FLUID, over=[Tissue.BOWEL_WALL])
        if rng.random() < 0.35:
            bubble = chain.moved((0, 0.35 * radius, 0), 0.5)
            half = len(bubble.radii) // 2 + 1
            canvas.paint(Balls(bubble.centres[:half], bubble.radii[:half]), Tissue.GAS, over=[Tissue.BOWEL_FLUID])


def _paint_mesenteric_vessels(canvas: Canvas, half_depth: float, rng: np.random.Generator) -> None:
    """Paint thin vessels that fan out from the root of the mesentery through the fat between the loops."""
    for _ in range(14):
        end = np.array([rng.uniform(-90, 70), rng.uniform(15, 0.7 * half_depth), rng.uniform(-120, 0)])
        root = np.array([4.0, 10.0, rng.uniform(-60, 10)])
        bend = (root + end) / 2 + rng.uniform(-10, 10, 3)
        vessel = Tissue.VEIN if rng.random() < 0.6 else Tissue.ARTERY
        canvas.paint(tube([root, bend, end], [2.2, 1.8, 1.3]), vessel, over=_FREE)
