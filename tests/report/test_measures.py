from __future__ import annotations

import numpy as np
import pytest

from scripts.report.page import organ_measures

AFFINE = np.array([[0.0, -2.0, 0.0, 5.0], [2.5, 0.0, 0.0, 6.0], [0.0, 0.0, -4.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
"""A voxel is 2 x 2.5 x 4 mm = 0.02 ml, whatever the orientation."""


def test_volume_is_in_ml_and_mean_in_hu() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1, 1, 1:4] = 1
    labels[3, 3, 2] = 3
    image = np.full(labels.shape, -1000, np.int16)
    image[1, 1, 1:4] = 40, 50, 90
    image[3, 3, 2] = -7
    spleen, liver, aorta = organ_measures(image, labels, AFFINE, ["spleen", "liver", "aorta"])
    assert spleen.volume_ml == pytest.approx(0.06) and spleen.mean_hu == pytest.approx(60.0)
    assert (liver.volume_ml, liver.mean_hu) == (0.0, None)
    assert aorta.volume_ml == pytest.approx(0.02) and aorta.mean_hu == pytest.approx(-7.0)
    assert [measure.class_index for measure in (spleen, liver, aorta)] == [1, 2, 3]


@pytest.mark.parametrize("edge", [(0, 2, 2), (4, 2, 2), (2, 0, 2), (2, 4, 2), (2, 2, 0), (2, 2, 4)])
def test_an_organ_at_any_edge_of_the_scan_is_cut_off(edge: tuple[int, int, int]) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 1
    labels[edge] = 2
    inside, outside = organ_measures(np.zeros(labels.shape), labels, AFFINE, ["spleen", "liver"])
    assert (inside.cut_off, outside.cut_off) == (False, True)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the highest class index is 2 of 1 organs"):
        organ_measures(np.zeros((2, 2, 2)), np.full((2, 2, 2), 2, np.uint8), AFFINE, ["spleen"])
    with pytest.raises(ValueError, match="give a label map on the scan's grid"):
        organ_measures(np.zeros((2, 2, 3)), np.zeros((2, 2, 2), np.uint8), AFFINE, ["spleen"])
