"""The synthetic abdomen held against the anatomy of real people.

Two kinds of reference ranges are used, both wide:

- *Measured*: 18 expert-contoured abdomens, modaresimr/evalseg Task003, CC-BY (labels only, 8 organs). Each label map
  was brought to RAS+; volumes are voxel count times voxel volume, of organs that do not touch the border of the scan;
  positions are differences of organ centroids in mm. The constants are the smallest and largest of the 18 people.
- *Literature*: for organs that those label maps do not have; the source stands beside each constant.
"""

from __future__ import annotations

import numpy as np
import pytest
from phantom_people import MILLIMETRES, PEOPLE, person
from scipy import ndimage

from development.phantom.tissues import ORGANS

# Smallest and largest of the 18 measured people (gallbladder 17, esophagus inside the scan 11).
MEASURED_VOLUME_ML = {
    "spleen": (92, 514),
    "left_kidney": (100, 259),
    "gallbladder": (9, 82),
    "esophagus": (6, 21),
    "liver": (1172, 2864),
    "stomach": (141, 988),
    "pancreas": (35, 117),
}
# Adrenal gland: 4 to 5 g is the textbook weight of one, most CT volumetries lie within 2 to 7 mL.
# Right kidney: as the left one's measured range. Portal and splenic veins: 28 mL on one CT, a range of our choice.
LITERATURE_VOLUME_ML = {
    "right_kidney": (90, 260),
    "right_adrenal_gland": (2, 7),
    "left_adrenal_gland": (2, 7),
    "portal_and_splenic_veins": (10, 50),
}

# Centroid minus the left kidney's centroid, (to the right, anterior, superior) in mm, of the measured people.
MEASURED_FROM_LEFT_KIDNEY_MM = {
    "spleen": ((-53, -16), (-29, 33), (30, 85)),
    "pancreas": ((33, 78), (43, 72), (-16, 49)),
    "gallbladder": ((107, 186), (42, 118), (-31, 101)),
    "esophagus": ((37, 86), (-9, 54), (70, 151)),
    "liver": ((101, 169), (22, 77), (29, 109)),
    "stomach": ((-11, 60), (38, 104), (2, 95)),
}
# Extent (right-left, anterior-posterior, superior-inferior) in mm, of the measured people.
MEASURED_EXTENT_MM = {
    "spleen": ((67, 111), (56, 138), (63, 133)),
    "pancreas": ((104, 174), (56, 107), (45, 112)),
    "left_kidney": ((55, 84), (42, 92), (95, 126)),
    "gallbladder": ((26, 100), (33, 84), (28, 72)),
    "stomach": ((64, 202), (90, 165), (68, 180)),
}


@pytest.mark.parametrize("organ", sorted({**MEASURED_VOLUME_ML, **LITERATURE_VOLUME_ML}))
def test_organs_wholly_in_the_scan_have_the_volume_of_real_ones(organ: str) -> None:
    smallest, largest = {**MEASURED_VOLUME_ML, **LITERATURE_VOLUME_ML}[organ]
    # The esophagus always leaves the scan upwards; as in the measured scans only its length in the scan counts.
    volumes = [person(n).volume_ml(organ) for n in PEOPLE if organ == "esophagus" or person(n).is_whole(organ)]
    assert volumes, f"{organ} is cut by the scan in every case"
    assert smallest <= min(volumes) and max(volumes) <= largest


@pytest.mark.parametrize("organ", MEASURED_FROM_LEFT_KIDNEY_MM)
def test_organs_lie_where_they_lie_in_real_people(organ: str) -> None:
    for n in PEOPLE:
        offset = person(n).centroid(organ) - person(n).centroid("left_kidney")
        for value, (low, high) in zip(offset, MEASURED_FROM_LEFT_KIDNEY_MM[organ], strict=True):
            assert low <= value <= high, f"case {n}: {organ} lies {offset} mm from the left kidney"


@pytest.mark.parametrize("organ", MEASURED_EXTENT_MM)
def test_the_mean_extent_of_an_organ_is_within_that_of_real_ones(organ: str) -> None:
    extents = [np.ptp(person(n).points(organ), axis=0) + MILLIMETRES for n in PEOPLE if person(n).is_whole(organ)]
    for value, (low, high) in zip(np.mean(extents, axis=0), MEASURED_EXTENT_MM[organ], strict=True):
        assert low <= value <= high


@pytest.mark.parametrize("number", PEOPLE)
def test_what_any_anatomy_book_says_about_who_lies_where(number: int) -> None:
    at = {organ: person(number).centroid(organ) for organ in ORGANS}
    right, anterior, superior = range(3)
    assert at["liver"][right] > at["stomach"][right] > at["spleen"][right]
    assert at["right_kidney"][superior] < at["left_kidney"][superior]
    assert at["inferior_vena_cava"][right] > at["aorta"][right] + 15
    assert at["stomach"][anterior] > at["pancreas"][anterior] > at["left_kidney"][anterior]
    assert at["pancreas"][anterior] > at["portal_and_splenic_veins"][anterior]
    assert at["esophagus"][superior] > at["stomach"][superior] > at["pancreas"][superior]
    assert at["pancreas"][superior] < at["portal_and_splenic_veins"][superior]
    # The pancreas crosses the midline, here taken between the two kidneys.
    middle = (at["right_kidney"][right] + at["left_kidney"][right]) / 2
    reach = person(number).points("pancreas")[:, right]
    assert reach.min() < middle - 30 and reach.max() > middle + 15


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gallbladder", "liver"),
        ("portal_and_splenic_veins", "pancreas"),
        ("portal_and_splenic_veins", "liver"),
        ("esophagus", "stomach"),
        ("inferior_vena_cava", "liver"),
        ("stomach", "liver"),
    ],
)
@pytest.mark.parametrize("number", PEOPLE)
def test_neighbours_touch(number: int, one: str, other: str) -> None:
    grown = ndimage.binary_dilation(person(number).where(one))
    assert (grown & person(number).where(other)).any()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("number", PEOPLE)
def test_the_adrenal_gland_sits_at_the_upper_pole_of_its_kidney(number: int, side: str) -> None:
    gland, kidney = person(number).points(f"{side}_adrenal_gland"), person(number).points(f"{side}_kidney")
    nearest = np.linalg.norm(gland[:, None] - kidney[None], axis=2).min()
    assert nearest <= 15
    assert gland[:, 2].mean() > kidney[:, 2].max() - 15
    assert gland[:, 2].max() > kidney[:, 2].max()


@pytest.mark.parametrize("number", PEOPLE)
def test_every_organ_is_in_the_scan_and_in_one_piece(number: int) -> None:
    for organ in ORGANS:
        pieces, count = ndimage.label(person(number).where(organ), np.ones((3, 3, 3)))
        assert count > 0, f"{organ} is missing"
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() / sizes.sum() > 0.9, f"{organ} is in pieces of {sizes} voxels"
