"""Scores by what is known of the patients."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import MetaTensor

from development.study.grids import dice_through_grid, format_grids, through_grid
from development.study.grids import main as grids_main
from development.study.groups import (
    difference_from,
    format_groups,
    groups_of,
    implausible,
    macro_dice,
    main,
    read_mean_scores,
)
from scripts.dataset_report.measure import CaseMeasure, ContourMeasure
from scripts.evaluation.case_scores import CaseScore
from scripts.evaluation.summary import scores_frame


def score(case: str, organ: str, dice: float, reference_ml: float = 10.0) -> CaseScore:
    return CaseScore(case, organ, {"cord": 1, "larynx": 2}[organ], "found", dice, 2.0, dice, reference_ml, 10.0)


def measure(case: str, pixel: float, slices: float, *organs: str) -> CaseMeasure:
    return CaseMeasure(
        case, "validation", spacing=(pixel, pixel, slices), organs={o: ContourMeasure(1.0) for o in organs}
    )


SCORES = scores_frame(
    [score("a", "cord", 0.8), score("a", "larynx", 0.6), score("b", "cord", 0.4), score("c", "cord", 0.6)]
)
MEASURES = [measure("a", 1.0, 3.0, "cord", "larynx"), measure("b", 2.0, 3.0, "cord"), measure("c", 4.0, 5.0, "cord")]


def test_every_group_holds_the_scores_of_its_patients() -> None:
    groups = groups_of(SCORES, MEASURES)
    assert {name: sorted(part["case"].unique()) for name, part in groups.items()} == {
        "all": ["a", "b", "c"],
        "pixels up to 2 mm": ["a", "b"],
        "pixels above 2 mm": ["c"],
        "slices up to 3 mm": ["a", "b"],
        "slices above 3 mm": ["c"],
        "2 organs contoured": ["a"],
        "fewer than 2 organs contoured": ["b", "c"],
        "contours of plausible volume": ["a", "b", "c"],
    }


def test_scores_with_and_without_the_doubted_contours_stand_beside_each_other() -> None:
    groups = groups_of(SCORES, MEASURES, doubted={("b", "cord"), ("b", "larynx")})
    assert list(groups)[:3] == ["all", "contours that are not doubted", "doubted contours"]
    assert [len(groups[name]) for name in list(groups)[:3]] == [4, 3, 1]
    assert macro_dice(groups["contours that are not doubted"])["dice"] == pytest.approx((0.7 + 0.6) / 2)


def test_the_macro_dice_of_a_group_is_the_mean_of_its_organ_means() -> None:
    row = macro_dice(SCORES)
    assert row["dice"] == pytest.approx(((0.8 + 0.4 + 0.6) / 3 + 0.6) / 2)
    assert (row["patients"], row["contours"], row["median"]) == (3, 4, pytest.approx(0.6))
    assert row["low"] <= row["dice"] <= row["high"]


def test_a_volume_unlike_the_others_of_its_organ_is_implausible() -> None:
    cords = [score(str(n), "cord", 0.7, ml) for n, ml in enumerate([10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 480.0])]
    few = [score(str(n), "larynx", 0.7, ml) for n, ml in enumerate([10.0, 10.0, 480.0])]
    scores = scores_frame([*cords, *few])
    assert scores.loc[implausible(scores), ["organ", "reference_ml"]].to_numpy().tolist() == [["cord", 480.0]]


def test_a_scored_case_of_another_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no scan is known for the scored cases \['c'\]"):
        groups_of(SCORES, MEASURES[:2])


def test_the_command_prints_the_groups_and_the_odd_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = []
    volumes = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 480.0]
    for n in range(len(volumes)):
        affine = np.diag([1.0 + n, 1.0 + n, 3.0, 1.0])
        label = np.zeros((8, 8, 4), np.uint8)
        label[2:5, 2:5, 1:3] = 1
        nibabel.save(nibabel.Nifti1Image(np.full((8, 8, 4), 40, np.int16), affine), tmp_path / f"case_{n}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), tmp_path / f"label_{n}.nii.gz")
        entries.append({"image": f"case_{n}.nii.gz", "label": f"label_{n}.nii.gz"})
    datalist = {"labels": {"0": "background", "1": "cord"}, "validation": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(datalist), encoding="utf-8")
    scores = scores_frame([score(f"case_{n}", "cord", 0.7, ml) for n, ml in enumerate(volumes)])
    pd.DataFrame(scores).to_csv(tmp_path / "scores.csv", index=False)

    main([str(tmp_path / "scores.csv"), "--dataset_dir", str(tmp_path)])

    printed = capsys.readouterr().out
    assert "| pixels up to 4 mm | 4 | 4 | 0.700 | 0.700-0.700 | 0.700 |" in re.sub(" +", " ", printed)
    assert "case_6: cord of 480 ml in the reference, Dice 0.700" in printed
    assert printed.split("\n")[0].split() == format_groups({"all": scores}).split("\n")[0].split()

    scores.assign(dice=0.5).to_csv(tmp_path / "before.csv", index=False)
    main([str(tmp_path / "scores.csv"), "--dataset_dir", str(tmp_path), "--reference", str(tmp_path / "before.csv")])
    line = re.sub(" +", " ", capsys.readouterr().out)
    assert "| pixels up to 4 mm | 4 | 4 | 0.700 | 0.700-0.700 | 0.700 | +20.0 (+20.0 to +20.0) |" in line


def test_several_runs_are_averaged_and_compared_contour_by_contour(tmp_path: Path) -> None:
    other = SCORES.assign(dice=[0.6, 0.6, 0.2, 0.6])[::-1]
    for name, scores in (("one", SCORES), ("other", other), ("fewer", SCORES[:3])):
        scores.to_csv(tmp_path / f"{name}.csv", index=False)
    mean = read_mean_scores([str(tmp_path / "one.csv"), str(tmp_path / "other.csv")])
    assert mean["dice"].tolist() == pytest.approx([0.7, 0.6, 0.3, 0.6])
    # The cord is 10 points worse in two of three patients, the larynx the same.
    assert difference_from(SCORES, mean).startswith("-3.3 (")
    with pytest.raises(ValueError, match=r"fewer.csv and .*one.csv score other contours"):
        read_mean_scores([str(tmp_path / "one.csv"), str(tmp_path / "fewer.csv")])


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
    grids_main(["--dataset_dir", str(tmp_path), "--spacing", "2", "2", "3", "--spacing", "8", "8", "8"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == "| 2 x 2 x 3 | 1.000 | - | 1.000 |"
    assert lines[3].startswith("| 8 x 8 x 8 | 0.") and lines[3] < lines[2].replace("2 x 2 x 3", "8 x 8 x 8")


def test_a_spacing_that_is_none_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="three positive numbers in mm"):
        grids_main(["--dataset_dir", "/nowhere", "--spacing", "0", "2", "3"])
