"""The HU of the synthetic abdomen: literature ranges per organ and phase, noise, air."""

from __future__ import annotations

import numpy as np
import pytest
from phantom_people import PEOPLE, person
from scipy import ndimage

from development.phantom.tissues import NON_CONTRAST, PORTAL_VENOUS, draw_hounsfield

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
