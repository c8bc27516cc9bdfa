"""What the report measures, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_dataset import truncate, write_case

from scripts.dataset_report.measure import (
    HU_EDGES,
    CaseMeasure,
    ContourMeasure,
    measure_case,
    measure_cases,
    measure_organs,
)
from scripts.dataset_report.outliers import find_outliers, robust_z

ORGANS = ["spleen", "liver", "aorta"]


def test_volume_place_cut_and_pieces_of_organs() -> None:
    labels = np.zeros((10, 10, 6), np.uint8)
    labels[1:3, 2:4, 0:2] = 1  # 8 voxels from the first slice on
    labels[5:8, 5, 3] = 2  # 3 voxels
    labels[9, 9, 4] = 2  # and one apart
    found = measure_organs(labels, (2.0, 2.0, 5.0), ORGANS, ["spleen", "liver", "aorta"])
    assert found["spleen"].ml == pytest.approx(8 * 0.02)
    assert found["spleen"].centre == pytest.approx((3.0, 5.0, 2.5))
    assert found["spleen"].cut and not found["liver"].cut
    assert (found["spleen"].apart, found["liver"].apart) == (0.0, 0.25)
    assert (found["aorta"].ml, found["aorta"].centre) == (0.0, None)
    assert "liver" not in measure_organs(labels, (2.0, 2.0, 5.0), ORGANS, ["spleen"])


def test_a_case_is_measured_on_its_own_grid(tmp_path: Path) -> None:
    image = np.full((6, 5, 4), -1000, np.int16)
    image[:, :, 0] = 40
    image[0, 0, 0] = 1500
    case = write_case(tmp_path, "a", image=image, patient="p1", phase="portal_venous")
    measured = measure_case("training", case, ["spleen", "liver"])
    assert (measured.shape, measured.spacing, measured.extent) == ((6, 5, 4), (2.0, 2.0, 3.0), (12.0, 10.0, 12.0))
    assert measured.soft_tissue_hu == 40
    shares = {int(HU_EDGES[n]): share for n, share in enumerate(measured.histogram) if share}
    assert shares == pytest.approx({-1004: 90 / 120, 36: 29 / 120, 1496: 1 / 120})
    assert measured.organs["liver"].ml == pytest.approx(2 * 0.012)
    assert (measured.patient, measured.phase, measured.labelled) == ("p1", "portal_venous", True)
    assert measured.picture.startswith(b"\xff\xd8")


def test_an_unlabelled_case_has_no_organs(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", annotated=[])
    del case["label"]
    measured = measure_case("training", case, ["spleen", "liver"])
    assert measured.organs == {} and not measured.labelled and measured.picture


def test_a_broken_file_does_not_stop_the_others(tmp_path: Path) -> None:
    cases = [write_case(tmp_path, name, seed) for seed, name in enumerate("abc")]
    truncate(Path(cases[1]["image"]))
    cases[2]["label"] = cases[2]["image"].replace("c.nii", "nowhere.nii")
    first, second, third = measure_cases({"training": cases}, ["spleen", "liver"])
    assert first.organs and not first.failure
    assert second.failure and third.failure


def case(name: str, **changes: object) -> CaseMeasure:
    """A case like all the others, but for the changes."""
    usual = {"shape": (100, 100, 60), "spacing": (2.0, 2.0, 3.0), "soft_tissue_hu": 40.0, "labelled": True}
    return CaseMeasure(name, "training", **{**usual, **changes})  # type: ignore[arg-type]


def spread(organ: str, *ml: float) -> list[CaseMeasure]:
    return [case(f"c{n}", organs={organ: ContourMeasure(value)}) for n, value in enumerate(ml)]


def found(cases: list[CaseMeasure]) -> list[tuple[str, str]]:
    return [(outlier.case, outlier.what) for outlier in find_outliers(cases)]


def test_the_robust_score_is_not_moved_by_what_it_looks_for() -> None:
    assert robust_z([1, 2, 3, 4, 50])[-1] == pytest.approx(31.7, abs=0.01)
    assert robust_z([1, 1, 1, 9]) == [0, 0, 0, 0]


def test_a_cohort_of_equals_has_nothing_worth_a_look() -> None:
    assert found([case(f"c{n}") for n in range(8)]) == []


def test_a_volume_unlike_the_others_is_named_with_theirs() -> None:
    assert found(spread("left_kidney", 150, 160, 170, 155, 165, 158, 900)) == [
        ("c6", "left kidney has 900 ml, 160 ml in the data set")
    ]
    assert found(spread("left_kidney", 150, 160, 170, 155, 900)) == []  # too few to say what is usual


def test_an_organ_that_the_scan_cuts_is_not_compared() -> None:
    cases = spread("liver", 1500, 1600, 1700, 1550, 1650, 1580, 300)
    cases[-1].organs["liver"].cut = True
    assert found(cases) == []


def test_a_contoured_organ_without_voxels_is_named() -> None:
    assert found(spread("gallbladder", 0.0)) == [("c0", "gallbladder is listed as contoured, and has no voxel")]


@pytest.mark.parametrize(("left", "right"), [("left_kidney", "right_kidney"), ("kidney_left", "kidney_right")])
def test_sides_that_are_swapped_are_named(left: str, right: str) -> None:
    def both(left_mm: float, right_mm: float) -> list[CaseMeasure]:
        places = {left: ContourMeasure(150, (left_mm, 0, 0)), right: ContourMeasure(150, (right_mm, 0, 0))}
        return [case("c", organs=places)]

    assert found(both(200, 100)) == []
    ((_, what),) = found(both(100, 200))
    assert what == f"{left.replace('_', ' ')} lies to the right of {right.replace('_', ' ')}: swapped?"


def test_an_organ_in_pieces_is_named() -> None:
    assert found([case("c", organs={"spinal_cord": ContourMeasure(20, apart=0.46)})]) == [
        ("c", "46 % of spinal cord is apart from its largest piece")
    ]


def test_hounsfield_units_and_spacing_unlike_the_others_are_named() -> None:
    usual = [case(f"c{n}", soft_tissue_hu=40.0 + n) for n in range(7)]
    odd = [
        case("shifted", soft_tissue_hu=-60.0),
        case("thick", spacing=(2.0, 2.0, 8.0), shape=(100, 100, 22)),
        case("short", shape=(100, 100, 15)),
    ]
    assert found([*usual, *odd]) == [
        ("shifted", "soft tissue has a median of -60 HU, 42 HU in the data set"),
        ("thick", "slice distance of 8 mm, 3 mm in the data set"),
        ("short", "length of the scan of 45 mm, 180 mm in the data set"),
    ]


def test_a_case_that_cannot_be_read_is_named() -> None:
    assert found([CaseMeasure("c", "test", failure="EOFError: cut short")]) == [
        ("c", "cannot be read: EOFError: cut short")
    ]
