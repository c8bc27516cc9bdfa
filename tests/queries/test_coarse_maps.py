"""Coarse maps on disk: what is written, when it is predicted, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scan import WINDOW, KnownCoarse, stored, two_organs

from scripts.queries.coarse_maps import CoarseMaps


class CountingCoarse(KnownCoarse):
    """A coarse stage that counts what it is asked and keeps the last image."""

    asked = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        self.seen = image
        return self.maps


def known(value: float) -> CountingCoarse:
    return CountingCoarse(torch.full((2, 11, 7, 3), value))


def maps_of(folder: Path, segmenter: CountingCoarse) -> tuple[CoarseMaps, dict[str, Any]]:
    case, store = stored(folder, two_organs())
    maps = CoarseMaps(store, segmenter, WINDOW, str(folder / "maps"), precision="float32")  # type: ignore[arg-type]
    return maps, case


def test_maps_are_bytes_on_the_slices_of_the_scan_and_the_pixels_of_the_coarse_grid(tmp_path: Path) -> None:
    maps, case = maps_of(tmp_path, known(0.6))
    found = maps.of(case)
    assert found.shape == (6, 2, 11, 7) and found.dtype == torch.uint8
    assert found.unique().tolist() == [153]  # 0.6 x 255


def test_slices_between_coarse_slices_are_interpolated(tmp_path: Path) -> None:
    rising = CountingCoarse(torch.tensor([0.0, 0.4, 0.8]).expand(2, 11, 7, 3).contiguous())
    maps, case = maps_of(tmp_path, rising)
    # Coarse slices lie at 0.5, 2.5 and 4.5 of the six slices.
    expected = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.8])
    assert torch.allclose(maps.of(case)[:, 0, 0, 0] / 255, expected, atol=0.5 / 255 + 1e-6)


def test_the_coarse_stage_sees_the_windowed_volume_with_slices_last(tmp_path: Path) -> None:
    segmenter = known(0.5)
    maps, case = maps_of(tmp_path, segmenter)
    maps.of(case)
    hu = maps.store.open(case).volume().float()
    assert segmenter.seen.shape == (1, 44, 28, 6)
    assert torch.allclose(segmenter.seen, ((hu + 175) / 450).clamp(0, 1))


def test_a_case_is_predicted_once_and_read_afterwards(tmp_path: Path) -> None:
    segmenter = known(0.5)
    maps, case = maps_of(tmp_path, segmenter)
    assert not maps.has(case)
    maps.of(case), maps.of(case)
    again, _ = maps_of(tmp_path, segmenter)
    again.of(case)
    assert segmenter.asked == 1 and maps.has(case)


def test_maps_that_cross_fitting_wrote_are_kept(tmp_path: Path) -> None:
    maps, case = maps_of(tmp_path, known(0.5))
    maps.write(case, known(0.2))  # type: ignore[arg-type]
    assert maps.of(case).unique().tolist() == [51]


def test_maps_that_are_written_again_are_read_again(tmp_path: Path) -> None:
    maps, case = maps_of(tmp_path, known(0.2))
    maps.of(case)
    maps.write(case, known(0.8))  # type: ignore[arg-type]
    assert maps.of(case).unique().tolist() == [204]


def test_maps_that_another_process_wrote_anew_are_read_when_all_are_opened_again(tmp_path: Path) -> None:
    (maps, case), (other, _) = maps_of(tmp_path, known(0.2)), maps_of(tmp_path, known(0.2))
    maps.of(case)
    other.write(case, known(0.8))  # type: ignore[arg-type]
    maps.reopen()
    assert maps.of(case).unique().tolist() == [204]


def test_an_unlabelled_case_has_maps_too(tmp_path: Path) -> None:
    maps, case = maps_of(tmp_path, known(0.5))
    del case["label"]
    assert maps.of(case).shape == (6, 2, 11, 7)


def test_a_window_that_is_none_is_refused(tmp_path: Path) -> None:
    _, store = stored(tmp_path, two_organs())
    with pytest.raises(ValueError, match=r"\[275, -175\] is not \[lower, upper\] in HU"):
        CoarseMaps(store, known(0.5), [275, -175], str(tmp_path))  # type: ignore[arg-type]
