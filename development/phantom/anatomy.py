"""One case of the synthetic abdomen in memory: a person, a scan range, a phase, an orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from development.phantom.bowel import paint_bowel
from development.phantom.canvas import Canvas
from development.phantom.deformation import Deformation
from development.phantom.imaging import Scanner, image_canvas
from development.phantom.tissues import ORGANS, PHASES
from development.phantom.torso import Torso, paint_table, paint_torso
from development.phantom.vessels import paint_adrenals, paint_arteries, paint_veins
from development.phantom.viscera import (
    Kidney,
    paint_gallbladder,
    paint_kidney,
    paint_liver,
    paint_pancreas_and_duodenum,
    paint_spleen,
    paint_stomach_and_esophagus,
)

ORIENTATIONS = ("RAS", "LPS", "LAS", "PLS", "PIR")
"""Voxel axes of the files in turn; the last two also permute the axes."""

Scalar = TypeVar("Scalar", bound=np.generic)

FEWEST_ANNOTATED, MOST_ANNOTATED = 4, 9


@dataclass(frozen=True)
class PhantomCase:
    """One synthetic CT.

    Attributes:
        image: HU, int16, axes as ``affine`` says.
        label: class index of the contoured organs, uint8, same axes; 0 is background.
        affine: voxel to world (RAS+, mm), 4 x 4.
        phase: "portal_venous" or "non_contrast".
        annotated: names of the contoured organs, in the order of the class indices.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    phase: str
    annotated: tuple[str, ...]


def case_phase(seed: int, number: int) -> str:
    """Return the phase of a case: of each two consecutive cases one is in each phase, in random order."""
    first = int(np.random.default_rng([seed, number // 2, 101]).integers(2))
    return PHASES[(first + number) % 2]


def contoured_organs(seed: int, number: int, partially_annotated: bool) -> tuple[str, ...]:
    """Return the organs contoured in a case: all, or a few drawn at random, in the order of the class indices."""
    if not partially_annotated:
        return ORGANS
    rng = np.random.default_rng([seed, number, 102])
    count = int(rng.integers(FEWEST_ANNOTATED, MOST_ANNOTATED + 1))
    chosen = set(rng.choice(len(ORGANS), count, replace=False).tolist())
    return tuple(organ for index, organ in enumerate(ORGANS) if index in chosen)


def require_valid(
    seed: int, number: int, in_plane_spacing: tuple[float, float], slice_spacing: tuple[float, float]
) -> None:
    """Raise a ValueError if the arguments describe no case (see ``make_phantom_case``)."""
    if seed < 0 or number < 0:
        raise ValueError(f"seed and number must be 0 or more, got seed {seed} and number {number}")
    for name, (low, high) in (("in_plane_spacing", in_plane_spacing), ("slice_spacing", slice_spacing)):
        if not 0 < low <= high:
            raise ValueError(f"{name} must be a smallest and a largest value in mm above 0, got {(low, high)}")


def make_phantom_case(
    seed: int,
    number: int,
    in_plane_spacing: tuple[float, float] = (1.6, 2.2),
    slice_spacing: tuple[float, float] = (2.5, 5.0),
    partially_annotated: bool = False,
) -> PhantomCase:
    """Make one case; equal arguments give equal arrays.

    Args:
        seed: seed of the data set.
        number: number of the case in the data set, from 0.
        in_plane_spacing: smallest and largest pixel size in mm.
        slice_spacing: smallest and largest distance of slices in mm.
        partially_annotated: if True only some organs are contoured; the body has all of them nevertheless.

    Returns:
        The case, in one of the ``ORIENTATIONS``.

    Raises:
        ValueError: if a number is negative or a spacing is not a positive range.
    """
    require_valid(seed, number, in_plane_spacing, slice_spacing)
    scan, body, imaging = (np.random.default_rng([seed, number, stream]) for stream in range(3))
    torso, deformation = Torso.draw(body), Deformation.draw(body)
    axes = _scan_range(torso, deformation, in_plane_spacing, slice_spacing, scan)
    canvas = Canvas(axes, deformation)
    paint_abdomen(canvas, torso, body)
    phase = case_phase(seed, number)
    image = image_canvas(canvas, phase, Scanner.draw(imaging), imaging)
    annotated = contoured_organs(seed, number, partially_annotated)
    kept = np.array([0, *(index if organ in annotated else 0 for index, organ in enumerate(ORGANS, 1))], dtype=np.uint8)
    affine = np.diag([*canvas.spacing, 1.0])
    # A scanner's origin has nothing to do with the patient.
    affine[:3, 3] = [axis[0] for axis in axes] + scan.uniform(-1, 1, 3) * (25.0, 25.0, 600.0)
    code = ORIENTATIONS[number % len(ORIENTATIONS)]
    image, turned = _reorient(image, affine, code)
    label, _ = _reorient(kept[canvas.label], affine, code)
    return PhantomCase(image, label, turned, phase, annotated)


def paint_abdomen(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    """Paint a whole person; the order decides who leaves an impression on whom (see ``Canvas``)."""
    kidneys = (Kidney.draw(1.0, rng), Kidney.draw(-1.0, rng))
    paint_torso(canvas, torso, rng)
    paint_bowel(canvas, torso.half_width, torso.half_depth, rng)
    paint_liver(canvas, torso.dome, rng)
    paint_spleen(canvas, rng)
    paint_stomach_and_esophagus(canvas, rng)
    for kidney in kidneys:
        paint_kidney(canvas, kidney, rng)
    paint_pancreas_and_duodenum(canvas, rng)
    paint_gallbladder(canvas, rng)
    paint_veins(canvas, kidneys, rng)
    paint_arteries(canvas, kidneys, rng)
    paint_adrenals(canvas, kidneys, rng)
    paint_table(canvas)


def _scan_range(
    torso: Torso,
    deformation: Deformation,
    in_plane_spacing: tuple[float, float],
    slice_spacing: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], ...]:
    """Return the voxel coordinates x, y, z (mm): the whole cross-section, cut at a different height in every case."""
    pixel, slice_distance = rng.uniform(*in_plane_spacing), rng.uniform(*slice_spacing)
    bottom, top = rng.uniform(-105, -70), rng.uniform(120, 168)
    half_width, half_depth = torso.outer_half_axes()
    angle = np.linspace(0, 2 * np.pi, 64)
    # 10 % beyond the ellipse, as the outline is squarer than one.
    ring = np.stack([1.1 * half_width * np.cos(angle), 1.1 * half_depth * np.sin(angle)], axis=1)
    outline = np.concatenate([np.column_stack([ring, np.full(64, z)]) for z in (bottom, top)])
    world = deformation.forward(outline)
    lower = world.min(axis=0) - (4.0, 14.0, 0.0) + (*rng.uniform(-4, 4, 2), 0.0)
    upper = world.max(axis=0) + (4.0, 4.0, 0.0)
    # Heights of the scan range refer to the person's own scale, but the slices are straight.
    lower[2], upper[2] = deformation.pose(np.array([[0, 0, bottom], [0, 0, top]]))[:, 2]
    spacing = np.array([pixel, pixel, slice_distance])
    counts = np.ceil((upper - lower) / spacing).astype(int) + 1
    x, y, z = (lower[i] + spacing[i] * np.arange(counts[i]) for i in range(3))
    return x, y, z


def _reorient(
    volume: NDArray[Scalar], affine: NDArray[np.float64], code: str
) -> tuple[NDArray[Scalar], NDArray[np.float64]]:
    """Turn a volume with RAS voxel axes to the axes of ``code``, with its affine; the world stays where it is."""
    axes, wanted = io_orientation(affine), axcodes2ornt(code)
    turn = ornt_transform(axes, wanted)
    turned = apply_orientation(volume, turn)
    back = inv_ornt_aff(turn, volume.shape)
    return np.ascontiguousarray(turned), affine @ back
