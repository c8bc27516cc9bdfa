"""What a scan must be to be trained on or segmented, at every entrance: problems refuse it, warnings can be right."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.dataset.problems import Kind, Problem

# Bounds outside of which a voxel size is a mistake (our choice): clinical CT lies within 0.2 and 10 mm, a spacing in
# metres or one of 0 falls below, one in micrometres above.
MIN_SPACING, MAX_SPACING = 0.05, 20.0
# Relative difference between the two places of a NIfTI header that give the spacing (float32 rounding stays below).
SPACING_TOLERANCE = 1e-2
# Longest, second and third side of a scan in mm (our choice): a table moves 2.2 m, a bore is 0.9 m wide.
LONGEST_SIDES = (2500.0, 1200.0, 1200.0)
SHORT_SIDE, MANY_VOXELS = 100.0, 64
# Distance in mm by which a corner of the label may miss that of its image: what rounding to float32 leaves.
CORNER_TOLERANCE = 1e-2
# Shear: refused where it moves a corner by so many voxels, named above the cosine that ITK still straightens.
SHEAR_TOLERANCE, STRAIGHT_COSINE = 0.5, 1e-4

INT16_MIN, INT16_MAX = -32768, 32767
# Intensities that no CT in HU has (our choice): normalised to mean 0 or about [0, 1], or rescaled to 8 bit.
NORMALISED_MAX, NORMALISED_RANGE, EIGHT_BIT_MAX = 2, 50, 255
# A scan that shows anything around the body has air near -1000 HU; one without may have been stored as HU + 1024.
HOUNSFIELD_NO_AIR = -100
# Soft tissue after the addition of 1024, where CT in HU has dense bone alone, and fat in HU; shares that give it away.
SHIFTED_TISSUE, SHIFTED_SHARE = (900, 1200), 0.1
FAT, FAT_SHARE = (-150, -30), 0.005

Affine = NDArray[np.float64]
Findings = tuple[list[Problem], list[Problem]]  # problems and warnings


def check_scan_arrays(
    voxels: NDArray[Any], affine: Affine, where: str, header_spacing: Sequence[float] | None = None
) -> Findings:
    """Check a scan's geometry (also against the header's own voxel size in mm) and voxels [x, y, z], meant to be HU."""
    problems, warnings = _check_geometry(affine, voxels.shape, where, header_spacing)
    more_problems, more_warnings = _check_intensities(voxels, affine, where)
    return problems + more_problems, warnings + more_warnings


def _check_geometry(affine: Affine, shape: Sequence[int], where: str, stated: Sequence[float] | None) -> Findings:
    """Check voxel size, size and axes of a scan without looking at its voxels."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    stored = spacing if stated is None else np.asarray(stated)
    shown, by_affine = (" x ".join(f"{size:.4g}" for size in sizes) for sizes in (stored, spacing))
    sides = spacing * shape
    longest = " x ".join(f"{side:.4g}" for side in sides)
    axes = affine[:3, :3] / np.maximum(spacing, 1e-12)
    cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])  # between x and y, x and z, y and z
    found = ""
    # The conditions are negated, so that a NaN is refused as well.
    if not ((np.minimum(stored, spacing) >= MIN_SPACING).all() and (np.maximum(stored, spacing) <= MAX_SPACING).all()):
        found = f"{shown} mm (by the affine {by_affine} mm), expected {MIN_SPACING:g} to {MAX_SPACING:g} mm"
    elif not np.allclose(stored, spacing, rtol=SPACING_TOLERANCE, atol=0):
        found = f"pixdim says {shown} mm but the affine {by_affine} mm, expected the same"
    elif not np.isfinite(affine).all() or (np.sort(sides)[::-1] > LONGEST_SIDES).any():
        found = f"{shown} mm make a scan of {longest} mm, expected at most 2500 x 1200 x 1200 mm"
    if found:
        return [Problem(Kind.SPACING, where, found)], []
    if (cosines * np.max(sides) / spacing.min()).max() > SHEAR_TOLERANCE:
        degrees = np.degrees(np.arccos(cosines.max()))
        return [Problem(Kind.SHEARED, where, f"two of them at {degrees:.3g} degrees")], []
    warnings = []
    if cosines.max() > STRAIGHT_COSINE:
        warnings.append(Problem(Kind.ALMOST, where, "axes that are not quite at right angles"))
    if sides.max() < SHORT_SIDE and sorted(shape)[1] >= MANY_VOXELS:
        warnings.append(Problem(Kind.SMALL, where, f"{longest} mm"))
    return [], warnings


def _check_intensities(voxels: NDArray[Any], affine: Affine, where: str) -> Findings:
    """Check that the values can be HU."""
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        places = np.argwhere(~np.isfinite(voxels))
        first = tuple(places[0].tolist())
        mm = ", ".join(f"{value:.1f}" for value in (affine @ [*first, 1.0])[:3])
        found = f"{len(places)} of {voxels.size} voxels, the first at {first}, at ({mm}) mm (RAS)"
        return [Problem(Kind.NOT_FINITE, where, found)], []
    reason = ""
    if low < INT16_MIN or high > INT16_MAX:
        reason = "beyond 16 bit"
    elif high <= NORMALISED_MAX or high - low <= NORMALISED_RANGE:
        reason = "normalised, or empty"
    elif low >= 0 and high <= EIGHT_BIT_MAX:
        reason = "8 bit, or a label map"
    if reason:
        found = f"values {low:g} to {high:g} ({reason}), expected about -1000 (air) to 1000 and more (bone)"
        return [Problem(Kind.NOT_HU, where, found)], []
    if low >= HOUNSFIELD_NO_AIR:
        return [], [Problem(Kind.NO_AIR, where, f"values {low:g} to {high:g} HU")]
    counts = (np.count_nonzero((voxels >= first) & (voxels <= last)) for first, last in (SHIFTED_TISSUE, FAT))
    share = next(counts) / voxels.size  # the second is only counted where it matters
    if share >= SHIFTED_SHARE and next(counts) / voxels.size < FAT_SHARE:
        found = f"{share:.0%} of the voxels between {SHIFTED_TISSUE[0]} and {SHIFTED_TISSUE[1]} HU"
        return [], [Problem(Kind.SHIFTED, where, found)]
    return [], []


def other_grid(shape: Sequence[int], affine: Affine, scan_shape: Sequence[int], scan_affine: Affine) -> str:
    """How the grid of a label map differs from that of its scan; empty if it does not."""
    if tuple(shape) != tuple(scan_shape):
        return f"shape {tuple(shape)}, expected the image's {tuple(scan_shape)}"
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))], dtype=np.float64)
    distance = np.linalg.norm(corners @ (affine - scan_affine).T, axis=1).max()
    # Negated, so that a NaN in either affine is refused as well.
    if not distance <= CORNER_TOLERANCE:
        return f"affine puts a corner {distance:.3g} mm from the image's, expected within {CORNER_TOLERANCE:g} mm"
    return ""
