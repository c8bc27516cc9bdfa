"""What a grid costs: contours on the grid and back."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from development.study.grids import dice_through_grid, format_grids, main, through_grid

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def ball(radius: float) -> np.ndarray:
    """A ball of a radius in mm in the middle of 40 x 40 x 30 voxels of 2 x 2 x 3 mm."""
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (40, 40, 30)), indexing="ij")
    distance = np.sqrt(sum((axis * mm) ** 2 for axis, mm in zip(axes, (2.0, 2.0, 3.0), strict=True)))
    return (distance <= radius).astype(np.uint8)


def write(folder: Path, labels: np.ndarray) -> dict[str, object]:
    """A data set of one case."""
    for name in ("image", "label"):
        nibabel.save(nibabel.Nifti1Image(labels, AFFINE), folder / f"{name}.nii.gz")
    case = {"image": "image.nii.gz", "label": "label.nii.gz"}
    content = {"labels": {"0": "background", "1": "ball", "2": "absent"}, "validation": [case]}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return {"case": "a", "label": str(folder / "label.nii.gz")}


def test_on_the_scans_own_grid_nothing_is_lost() -> None:
    labels = MetaTensor(torch.from_numpy(ball(20.0))[None], affine=torch.from_numpy(AFFINE))
    assert torch.equal(through_grid(labels, [2.0, 2.0, 3.0]), labels.as_tensor()[0])


def test_a_coarse_grid_costs_small_organs_most(tmp_path: Path) -> None:
    dice = {}
    for radius in (6.0, 30.0):
        case = write(tmp_path, ball(radius))
        for spacing in (4.0, 8.0):
            dice[radius, spacing], absent = dice_through_grid(case, ["ball", "absent"], [spacing] * 3)
            assert np.isnan(absent)
    assert dice[30.0, 4.0] > dice[30.0, 8.0] > dice[6.0, 8.0]
    assert dice[6.0, 4.0] > dice[6.0, 8.0]


def test_an_organ_without_contours_has_no_mean() -> None:
    rows = {"3 x 3 x 3": np.array([[0.9, np.nan], [0.7, np.nan]])}
    last = format_grids(rows, ["ball", "absent"]).splitlines()[-1]
    assert " ".join(last.split()) == "| 3 x 3 x 3 | 0.800 | - | 0.800 |"


def test_the_command_prints_a_row_for_each_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, ball(20.0))
    main(["--dataset_dir", str(tmp_path), "--spacing", "2", "2", "3", "--spacing", "8", "8", "8"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == "| 2 x 2 x 3 | 1.000 | - | 1.000 |"
    assert lines[3].startswith("| 8 x 8 x 8 | 0.") and lines[3] < lines[2].replace("2 x 2 x 3", "8 x 8 x 8")


def test_a_spacing_that_is_none_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="three positive numbers in mm"):
        main(["--dataset_dir", "/nowhere", "--spacing", "0", "2", "3"])
