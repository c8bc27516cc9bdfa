"""What the report measures, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_dataset import truncate, write_case

from scripts.dataset_report.measure import HU_EDGES, measure_case, measure_cases, measure_organs

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
