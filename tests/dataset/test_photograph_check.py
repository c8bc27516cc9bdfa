"""The check of photographs and masks: every problem with its file, what was found and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_voc import CLASSES, photograph_case, save_mask, shapes, write_voc

from scripts.dataset.case_check import check_photograph
from scripts.dataset.check import check_dataset
from scripts.dataset.datalists import load_cases
from scripts.dataset.layouts.voc import voc_colours
from scripts.dataset.problems import DatasetError, Kind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voc(tmp_path, train=2, val=1)


def only_problem(case: dict[str, Any]) -> tuple[Kind, str]:
    problems = check_photograph(case, CLASSES).problems
    assert len(problems) == 1
    return problems[0].kind, problems[0].found


def test_a_sound_photograph_has_no_problem_and_counts_its_classes(folder: Path) -> None:
    findings = check_photograph(photograph_case(folder), CLASSES)
    _, mask = shapes(1)
    assert findings.problems == [] and findings.warnings == []
    assert findings.organ_voxels == {"disc": int((mask == 1).sum()), "square": int((mask == 2).sum())}
    assert 255 in mask and findings.image_hash


def test_a_test_image_needs_no_mask(folder: Path) -> None:
    case = photograph_case(folder, annotated=[])
    del case["label"]
    assert check_photograph(case, CLASSES).problems == []


def test_a_mask_of_colours_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    Image.open(case["label"]).convert("RGB").save(case["label"])
    assert only_problem(case) == (Kind.NOT_INDICES, "mode RGB, expected P (palette) or L (greyscale)")


def test_a_greyscale_mask_of_indices_is_as_good_as_a_palette(folder: Path) -> None:
    case = photograph_case(folder)
    Image.fromarray(shapes(1)[1]).save(case["label"])
    assert check_photograph(case, CLASSES).problems == []


def test_a_palette_that_is_not_vocs_is_refused_where_the_classes_are_vocs(folder: Path) -> None:
    colours = voc_colours()
    colours[1], colours[2] = colours[2], colours[1]  # an editor numbered the colours anew
    case = photograph_case(folder)
    save_mask(Path(case["label"]), shapes(1)[1], colours)
    assert check_photograph(case, CLASSES).problems == []
    kind, found = only_problem({**case, "voc_palette": True})
    assert (kind, found) == (Kind.PALETTE, "index 1 has the colour (0, 128, 0), expected (128, 0, 0)")


def test_an_index_that_no_class_has_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    mask = shapes(1)[1]
    mask[0, 0] = 7
    save_mask(Path(case["label"]), mask)
    assert only_problem(case) == (Kind.UNKNOWN_VALUE, "7, expected among: 0, 1, 2, 255")


def test_255_is_refused_where_nothing_is_to_be_ignored(folder: Path) -> None:
    case = photograph_case(folder)
    del case["ignored_value"]
    assert only_problem(case) == (Kind.UNKNOWN_VALUE, "255, expected among: 0, 1, 2")


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    save_mask(Path(case["label"]), np.ascontiguousarray(shapes(1)[1].T))
    assert only_problem(case) == (Kind.GRID, "44 x 60 pixels, expected the photograph's 60 x 44")


def test_a_greyscale_photograph_is_refused(folder: Path) -> None:
    case = photograph_case(folder)
    Image.open(case["image"]).convert("L").save(case["image"])
    assert only_problem(case) == (Kind.NOT_RGB, "mode L, expected RGB")


def test_a_truncated_and_a_missing_file_are_told_apart(folder: Path) -> None:
    case = photograph_case(folder)
    image = Path(case["image"])
    image.write_bytes(image.read_bytes()[:600])
    Path(case["label"]).unlink()
    problems = check_photograph(case, CLASSES).problems
    assert [problem.kind for problem in problems] == [Kind.UNREADABLE, Kind.MISSING_FILE]


def test_the_check_of_a_dataset_lists_the_problems_of_all_photographs_at_once(folder: Path) -> None:
    Image.new("RGB", (60, 44)).save(folder / "SegmentationClass/train_0.png")
    Image.new("L", (60, 44)).save(folder / "JPEGImages/val_0.jpg")
    splits = {split: load_cases(str(folder), split, CLASSES) for split in ("training", "validation")}
    with pytest.raises(DatasetError) as caught:
        check_dataset(splits, CLASSES, progress=False)
    message = str(caught.value)
    for kind, file in ((Kind.NOT_INDICES, "train_0.png"), (Kind.NOT_RGB, "val_0.jpg")):
        assert f"{kind.title} (1). To fix: {kind.remedy}." in message and file in message


def test_a_sound_set_passes(folder: Path) -> None:
    splits = {split: load_cases(str(folder), split, CLASSES) for split in ("training", "validation")}
    summary = check_dataset(splits, CLASSES, progress=False)
    assert summary.organ_cases["training"] == {"disc": 2, "square": 2}


def test_one_photograph_in_two_splits_is_refused(folder: Path) -> None:
    image = folder / "JPEGImages"
    (image / "val_0.jpg").write_bytes((image / "train_1.jpg").read_bytes())
    (folder / "SegmentationClass/val_0.png").write_bytes((folder / "SegmentationClass/train_1.png").read_bytes())
    splits = {split: load_cases(str(folder), split, CLASSES) for split in ("training", "validation")}
    with pytest.raises(DatasetError, match="the same voxels as .*train_1.jpg"):
        check_dataset(splits, CLASSES, progress=False)
