"""What one synthetic case promises whatever the person: determinism, variety, orientation, contours."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from phantom_people import PEOPLE, person, tiny_case

from development.phantom.anatomy import ORIENTATIONS, PhantomCase, case_phase, contoured_organs, make_phantom_case
from development.phantom.dataset import is_partially_annotated
from development.phantom.deformation import Deformation
from development.phantom.shapes import Ellipsoid, tube
from development.phantom.tissues import CLASS_INDEX, ORGANS, PHASES


def world_centroid(case: PhantomCase, organ: str) -> NDArray[np.float64]:
    voxels = np.argwhere(case.label == CLASS_INDEX[organ])
    return np.asarray(nibabel.affines.apply_affine(case.affine, voxels).mean(axis=0))


def test_equal_seeds_give_equal_bytes() -> None:
    one, again = tiny_case(3), tiny_case(3)
    assert one.image.tobytes() == again.image.tobytes()
    assert one.label.tobytes() == again.label.tobytes()
    assert np.array_equal(one.affine, again.affine)


def test_other_numbers_and_other_seeds_give_other_people() -> None:
    volumes = {tiny_case(n, seed=seed).image.tobytes() for n, seed in [(0, 0), (5, 0), (0, 1)]}
    assert len(volumes) == 3
    livers = [person(n).volume_ml("liver") for n in PEOPLE]
    assert np.std(livers) > 50
    heights = {person(n).label.shape[2] for n in PEOPLE}
    assert len(heights) > 3, "the scan range should be cut at different heights"


def test_of_every_two_cases_one_is_enhanced() -> None:
    for seed in range(3):
        for pair in range(4):
            assert {case_phase(seed, 2 * pair), case_phase(seed, 2 * pair + 1)} == set(PHASES)


def test_the_world_is_the_same_whatever_the_orientation_of_the_voxels() -> None:
    seen = set()
    for n in range(len(ORIENTATIONS)):
        case = tiny_case(n)
        seen.add("".join(nibabel.aff2axcodes(case.affine)))
        assert world_centroid(case, "liver")[0] > world_centroid(case, "spleen")[0] + 80
        assert world_centroid(case, "stomach")[1] > world_centroid(case, "right_kidney")[1] + 30
        assert world_centroid(case, "liver")[2] > world_centroid(case, "right_kidney")[2] + 20
    assert seen == set(ORIENTATIONS)


def test_spacing_is_what_was_asked_for_and_not_isotropic_by_default() -> None:
    case = make_phantom_case(0, 0, in_plane_spacing=(7.0, 8.0), slice_spacing=(9.0, 10.0))
    x, y, z = nibabel.affines.voxel_sizes(case.affine)
    assert 7 <= x <= 8 and x == pytest.approx(y) and 9 <= z <= 10


def test_deforming_a_point_there_and_back_returns_it() -> None:
    deformation = Deformation.draw(np.random.default_rng(5))
    axes = (np.linspace(-150, 150, 7), np.linspace(-100, 100, 6), np.linspace(-90, 150, 5))
    world = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T
    reference = deformation.backward(axes).reshape(3, -1).T.astype(np.float64)
    assert np.abs(deformation.forward(reference) - world).max() < 0.1
    assert np.abs(deformation.pose(reference) - world).max() > 2.0, "there should be an elastic part"


def test_organs_without_contour_are_background_but_the_body_has_them() -> None:
    whole, partial = tiny_case(3), tiny_case(3, partially_annotated=True)
    assert whole.annotated == ORGANS
    assert 0 < len(partial.annotated) < len(ORGANS)
    assert np.array_equal(whole.image, partial.image)
    for organ in ORGANS:
        expected = (whole.label == CLASS_INDEX[organ]) & (organ in partial.annotated)
        assert np.array_equal(partial.label == CLASS_INDEX[organ], expected)


def test_a_quarter_of_the_training_cases_is_partly_contoured() -> None:
    assert [n for n in range(12) if is_partially_annotated(n, 0.25)] == [3, 7, 11]
    assert not any(is_partially_annotated(n, 0.0) for n in range(12))
    assert all(is_partially_annotated(n, 1.0) for n in range(12))
    assert contoured_organs(0, 3, True) != contoured_organs(0, 7, True)


def test_an_ellipsoid_holds_the_points_within_its_half_axes() -> None:
    # Half axes 2, 4, 6 about (1, 0, 0), turned by 90 degrees about z: the axis of 4 mm now lies along -x.
    solid = Ellipsoid((1, 0, 0), (2, 4, 6), turn=(0, 0, 90))
    points = np.array([[4.9, 0, 0], [5.1, 0, 0], [1, 1.9, 0], [1, 2.1, 0], [1, 0, 5.9], [1, 0, 6.1]], dtype=np.float32)
    assert solid.inside(points.T).tolist() == [True, False, True, False, True, False]
    assert solid.at((0, 0, 1)) == pytest.approx([1, 0, 6])


def test_a_tube_needs_two_points_and_a_radius_for_each() -> None:
    assert tube([(0, 0, 0), (10, 0, 0)], 5.0).centres[:, 0] == pytest.approx([0, 2, 4, 6, 8, 10])
    with pytest.raises(ValueError, match="at least two points"):
        tube([(0, 0, 0)], 5.0)
    with pytest.raises(ValueError, match="got 3 radii for 2 points"):
        tube([(0, 0, 0), (10, 0, 0)], [1.0, 2.0, 3.0])
