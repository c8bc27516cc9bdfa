"""What one synthetic case promises whatever the person: determinism, orientation, contours, HU, noise, air."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from phantom_people import PEOPLE, person, tiny_case
from scipy import ndimage

from development.phantom.anatomy import ORIENTATIONS, PhantomCase, case_phase, contoured_organs, make_phantom_case
from development.phantom.dataset import is_partially_annotated
from development.phantom.deformation import Deformation
from development.phantom.shapes import Ellipsoid, tube
from development.phantom.tissues import CLASS_INDEX, NON_CONTRAST, ORGANS, PHASES, PORTAL_VENOUS, draw_hounsfield


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


# Radiology textbooks, wide: unenhanced liver 45 to 65 HU and spleen a little below it (Piekarski et al., Radiology
# 1980), unenhanced blood 30 to 50, bile 0 to 20, adrenal -10 to 45; about 70 s after contrast agent liver 90 to 130,
# spleen 100 to 140, kidney 140 to 220, large vessels 110 to 190, pancreas 70 to 120, adrenal 40 to 110.
# Small organs are given 10 HU more on both sides for partial volume.
LITERATURE_HOUNSFIELD = {
    PORTAL_VENOUS: {
        "spleen": (100, 140),
        "right_kidney": (140, 220),
        "left_kidney": (140, 220),
        "gallbladder": (-10, 35),
        "esophagus": (20, 95),
        "liver": (85, 130),
        "aorta": (110, 190),
        "inferior_vena_cava": (100, 180),
        "portal_and_splenic_veins": (110, 190),
        "pancreas": (65, 125),
        "right_adrenal_gland": (35, 110),
        "left_adrenal_gland": (35, 110),
    },
    NON_CONTRAST: {
        "spleen": (38, 58),
        "right_kidney": (15, 45),
        "left_kidney": (15, 45),
        "gallbladder": (-10, 30),
        "esophagus": (5, 55),
        "liver": (45, 68),
        "aorta": (28, 55),
        "inferior_vena_cava": (25, 55),
        "portal_and_splenic_veins": (25, 55),
        "pancreas": (20, 55),
        "right_adrenal_gland": (-10, 50),
        "left_adrenal_gland": (-10, 50),
    },
}


@pytest.mark.parametrize("number", PEOPLE)
def test_median_hounsfield_units_are_those_of_the_literature(number: int) -> None:
    for organ, (low, high) in LITERATURE_HOUNSFIELD[person(number).case.phase].items():
        median = float(np.median(person(number).image[person(number).where(organ)]))
        assert low <= median <= high, f"{organ} has {median} HU in the {person(number).case.phase} phase"


def test_contrast_agent_shows_in_aorta_and_kidney_and_not_in_bile() -> None:
    def mean(phase: str, organ: str) -> float:
        people = [person(n) for n in PEOPLE if person(n).case.phase == phase]
        return float(np.mean([np.median(p.image[p.where(organ)]) for p in people]))

    assert mean(PORTAL_VENOUS, "aorta") > mean(NON_CONTRAST, "aorta") + 70
    assert mean(PORTAL_VENOUS, "left_kidney") > mean(NON_CONTRAST, "left_kidney") + 90
    assert abs(mean(PORTAL_VENOUS, "gallbladder") - mean(NON_CONTRAST, "gallbladder")) < 15


def test_without_contrast_agent_neighbouring_organs_differ_by_less_than_the_noise() -> None:
    unenhanced = [person(n) for n in PEOPLE if person(n).case.phase == NON_CONTRAST]
    for one, other in [("pancreas", "portal_and_splenic_veins"), ("liver", "spleen"), ("aorta", "esophagus")]:
        for p in unenhanced:
            difference = np.median(p.image[p.where(one)]) - np.median(p.image[p.where(other)])
            assert abs(difference) < p.image[p.where("liver")].std()


def test_noise_is_within_the_range_of_routine_ct() -> None:
    for n in PEOPLE:
        inside_liver = ndimage.binary_erosion(person(n).where("liver"), iterations=3)
        # 15 to 30 HU of noise, and the liver's own texture, vessels and cysts.
        assert 13 <= person(n).image[inside_liver].std() <= 40


def test_air_is_at_minus_1000_and_the_whole_body_is_in_the_field_of_view() -> None:
    for n in PEOPLE:
        image = person(n).image
        assert image.dtype == np.int16
        assert image.min() == -1000
        rim = np.concatenate([image[0].ravel(), image[-1].ravel(), image[:, -1].ravel()])
        assert np.median(rim) < -900 and np.mean(rim > -300) < 0.01


def test_an_unknown_phase_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown contrast phase 'arterial'.*portal_venous.*non_contrast"):
        draw_hounsfield("arterial", np.random.default_rng(0))
