"""200 series made at random: their voxels lie where the standard puts them, in HU, or the refusal names a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_series import voxels_of, write_ct_series
from numpy.typing import NDArray

from scripts.dataset.volume_file import read_volume_file

SERIES, AT_ONCE = 200, 50
READ, REFUSED = ("nothing", "preamble", "slopes", "shorter"), ("empty", "comma", "cut", "gap")


def random_grid(rng: np.random.Generator) -> NDArray[np.float64]:
    """A grid in any orientation: axes exchanged, turned round and rotated."""
    turn, _ = np.linalg.qr(np.eye(3)[rng.permutation(3)] + rng.normal(0, 0.2, (3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.choice([-1.0, 1.0], 3) * rng.uniform(0.5, 5.0, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def change(folder: Path, what: str, rng: np.random.Generator) -> None:
    """Write the files of a series in another way, or damage one of them."""
    inner = sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).InstanceNumber))
    one = inner[int(rng.integers(1, len(inner) - 1))]
    if what == "preamble":
        one.write_bytes(one.read_bytes()[132:])
    elif what == "slopes":  # of one slice only, with the same HU
        image = pydicom.dcmread(one)
        image.PixelData = (2 * image.pixel_array).astype("<i2").tobytes()
        image.RescaleSlope = 0.5
        image.save_as(one)
    elif what == "shorter":
        inner[0].unlink()
    elif what == "empty":
        one.write_bytes(b"")
    elif what == "comma":
        one.write_bytes(one.read_bytes().replace(b"-1024", b"-10,4"))
    elif what == "cut":
        one.write_bytes(one.read_bytes()[:-10])
    elif what == "gap":
        one.unlink()


@pytest.mark.parametrize("first", range(0, SERIES, AT_ONCE))
def test_voxels_lie_where_the_standard_puts_them_or_the_refusal_says_where(first: int, tmp_path: Path) -> None:
    for number in range(first, first + AT_ONCE):
        rng = np.random.default_rng(number)
        what = str(rng.choice([*READ, *READ, *REFUSED]))
        affine, shape = random_grid(rng), rng.integers(4, 8, 3)
        hu = voxels_of((int(shape[0]), int(shape[1]), int(shape[2])), number)
        folder = write_ct_series(tmp_path / f"series{number}", hu, affine, series=f"1.2.{number}")
        change(folder, what, rng)
        if what in REFUSED:
            with pytest.raises(ValueError, match="IM0"):
                read_volume_file(str(folder))
            continue
        volume = read_volume_file(str(folder))
        assert_same_place(hu, affine, volume.voxels, volume.affine, f"series {number}, {what}")


def assert_same_place(
    hu: NDArray[np.int16], affine: NDArray[np.float64], found: NDArray[Any], place: NDArray[np.float64], about: str
) -> None:
    """Every voxel that was found has its HU at its place in mm."""
    indices = np.indices(found.shape).reshape(3, -1)
    there = np.linalg.solve(affine, place @ np.vstack([indices, np.ones((1, indices.shape[1]))]))[:3]
    nearest = np.rint(there).astype(int)
    np.testing.assert_allclose(there, nearest, atol=0.02, err_msg=about)
    np.testing.assert_allclose(found[tuple(indices)], hu[tuple(nearest)], atol=0.01, err_msg=about)
