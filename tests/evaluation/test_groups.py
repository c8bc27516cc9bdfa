"""Scores by what is known of the patients."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from development.study.groups import format_groups, groups_of, implausible, macro_dice, main
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
