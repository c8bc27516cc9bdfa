"""Layouts of data sets: PASCAL VOC's folders as a datalist, and a newcomer's layout in one new file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from config_compositions import ROOT
from tiny_voc import CLASSES, write_voc

from scripts.dataset.datalists import load_cases
from scripts.dataset.inference_inputs import scan_inputs
from scripts.dataset.layouts import layout_of
from scripts.dataset.layouts.voc import VOC_CLASSES, datalist, is_layout, voc_colours

LAYOUT = """
import os


def is_layout(folder):
    return os.path.isfile(os.path.join(folder, "cases.csv"))


def datalist(folder):
    with open(os.path.join(folder, "cases.csv"), encoding="utf-8") as stream:
        rows = [line.strip().split(",") for line in stream if line.strip()]
    return {
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": image, "label": label} for image, label in rows],
    }
"""
READ = """
import json, sys
from scripts.dataset.datalists import load_cases
from scripts.dataset.inference_inputs import scan_inputs
cases = load_cases(sys.argv[1], "training", ["liver"])
print(json.dumps([[case["image"], case["label"]] for case in cases]))
print(json.dumps([case["image"] for case in scan_inputs(sys.argv[1])]))
"""


def test_a_new_layout_is_one_new_file(phantom_dir: Path, tmp_path: Path) -> None:
    copy, data = tmp_path / "bundle", tmp_path / "data"
    shutil.copytree(ROOT / "scripts", copy / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", copy / "configs")
    (copy / "scripts/dataset/layouts/table.py").write_text(LAYOUT, encoding="utf-8")
    data.mkdir()
    scan = next((phantom_dir / "images").iterdir()).name
    for folder in ("images", "labels"):
        shutil.copytree(phantom_dir / folder, data / folder)
    (data / "cases.csv").write_text(f"images/{scan},labels/{scan}\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", READ, str(data)], cwd=copy, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    training, inference = map(json.loads, done.stdout.splitlines()[-2:])
    assert training == [[os.path.join(data, "images", scan), os.path.join(data, "labels", scan)]]
    assert inference == [os.path.join(data, "images", scan)]


def test_a_folder_of_no_layout_has_none(tmp_path: Path) -> None:
    assert layout_of(str(tmp_path)) is None
    assert layout_of(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize("part", ["JPEGImages", "SegmentationClass"])
def test_voc_is_known_by_any_of_its_folders(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir()
    layout = layout_of(str(tmp_path))
    assert layout is not None and layout.__name__.endswith("voc")


def lists(folder: Path) -> Path:
    return folder / "ImageSets/Segmentation"


def test_the_palette_is_that_of_the_devkit() -> None:
    colours = voc_colours()
    # As the devkit's own masks show them: aeroplane, bicycle, person, tvmonitor, unknown.
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: colours[index] for index in expected} == expected
    assert len(set(colours)) == 256


def test_train_and_val_become_splits_with_their_masks(tmp_path: Path) -> None:
    write_voc(tmp_path, train=3, val=2)
    cases = load_cases(str(tmp_path), "training", CLASSES)
    assert [case["case"] for case in cases] == ["train_0", "train_1", "train_2"]
    assert cases[0]["image"] == str(tmp_path / "JPEGImages/train_0.jpg")
    assert cases[0]["label"] == str(tmp_path / "SegmentationClass/train_0.png")
    assert cases[0]["label_values"] == {"disc": 1, "square": 2}
    assert cases[0]["ignored_value"] == 255 and cases[0]["annotated"] == CLASSES
    assert len(load_cases(str(tmp_path), "validation", CLASSES)) == 2


def test_without_classes_txt_the_classes_are_those_of_voc(tmp_path: Path) -> None:
    content = datalist(str(write_voc(tmp_path, classes=None)))
    assert content["labels"]["0"] == "background"
    assert [content["labels"][str(n)] for n in range(1, 21)] == list(VOC_CLASSES)
    assert content["voc_palette"] is True
    assert datalist(str(write_voc(tmp_path / "own")))["voc_palette"] is False


def test_any_list_is_a_split_by_its_own_name(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (lists(tmp_path) / "trainval.txt").write_text("train_0\nval_1\n", encoding="utf-8")
    assert [case["case"] for case in load_cases(str(tmp_path), "trainval", CLASSES)] == ["train_0", "val_1"]


def test_test_images_have_no_masks_and_inference_takes_them(tmp_path: Path) -> None:
    write_voc(tmp_path, test=2)
    assert [case["case"] for case in scan_inputs(str(tmp_path))] == ["test_0", "test_1"]
    assert all("label" not in case for case in load_cases(str(tmp_path), "test", CLASSES))


def test_without_test_images_inference_takes_val(tmp_path: Path) -> None:
    assert [case["case"] for case in scan_inputs(str(write_voc(tmp_path)))] == ["val_0", "val_1"]


def test_a_photograph_and_a_folder_of_photographs_are_inputs_too(tmp_path: Path) -> None:
    write_voc(tmp_path, train=2, val=1)
    folder = tmp_path / "JPEGImages"
    assert [case["case"] for case in scan_inputs(str(folder))] == ["train_0", "train_1", "val_0"]
    assert [case["case"] for case in scan_inputs(str(folder / "val_0.jpg"))] == ["val_0"]


def test_a_folder_of_scans_with_pictures_beside_them_gives_the_scans(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.png"):
        (tmp_path / name).touch()
    assert [case["image"] for case in scan_inputs(str(tmp_path))] == [str(tmp_path / "a.nii.gz")]


@pytest.mark.parametrize("part", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_a_missing_folder_is_named_with_the_archive_that_has_it(tmp_path: Path, part: str) -> None:
    write_voc(tmp_path)
    (tmp_path / part).rename(tmp_path / "elsewhere")
    assert is_layout(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"it has no {part}[;,].*expected .*VOCtrainval_11-May-2012.tar"):
        load_cases(str(tmp_path), "training", CLASSES)


def test_missing_images_and_masks_are_counted_and_named_at_once(tmp_path: Path) -> None:
    write_voc(tmp_path, train=8)
    for n in range(7):
        (tmp_path / f"JPEGImages/train_{n}.jpg").unlink()
    (tmp_path / "SegmentationClass/val_1.png").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_cases(str(tmp_path), "training", CLASSES)
    message = str(caught.value)
    assert "JPEGImages lacks 7 files that the lists name: train_0.jpg" in message and "and 2 more" in message
    assert "SegmentationClass lacks 1 files that the lists name: val_1.png." in message
    assert "remove the names from the lists" in message


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (lists(tmp_path) / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="has no ImageSets/Segmentation/val.txt; expected .*VOCtrainval"):
        load_cases(str(tmp_path), "training", CLASSES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("train_0 -1\ntrain_1  1\n", "holds lines such as 'train_0 -1'", id="of-the-classification-task"),
        pytest.param("JPEGImages/train_0.jpg\n", "holds lines such as", id="paths"),
        pytest.param("\n", "is empty", id="empty"),
        pytest.param("train_0\ntrain_0\n", "lists train_0 more than once", id="twice"),
    ],
)
def test_a_list_of_another_form_is_refused(tmp_path: Path, text: str, found: str) -> None:
    write_voc(tmp_path)
    (lists(tmp_path) / "train.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=found):
        load_cases(str(tmp_path), "training", CLASSES)


@pytest.mark.parametrize("names", ["disc\nsquare\n", "background\n", "background\ndisc\ndisc\n"])
def test_class_names_of_another_form_are_refused(tmp_path: Path, names: str) -> None:
    write_voc(tmp_path)
    (tmp_path / "classes.txt").write_text(names, encoding="utf-8")
    with pytest.raises(ValueError, match="classes.txt begins with .* expected 'background' and then"):
        load_cases(str(tmp_path), "training", CLASSES)


def test_a_class_that_the_folder_does_not_have_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    write_voc(tmp_path)
    with pytest.raises(ValueError, match=r"'discs' \(did you mean 'disc'\?\).*disc, square"):
        load_cases(str(tmp_path), "training", ["discs"])


def test_the_folder_above_is_no_layout_and_the_error_says_what_would_be(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOC2012")
    with pytest.raises(FileNotFoundError, match="give a folder of PASCAL VOC"):
        load_cases(str(tmp_path), "training", CLASSES)
