"""BTCV 2015: what the challenge's folders become, and what is said when they are not what was published."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from btcv_cohort import save
from config_compositions import load

from scripts.dataset.datalists import load_cases
from scripts.dataset.inference_inputs import scan_inputs
from scripts.dataset.problems import DatasetError, Kind
from scripts.prepare.btcv import ORGANS, main, prepare_btcv


def content_of(folder: Path) -> Any:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def names(content: Any, split: str) -> list[str]:
    return [Path(entry["image"]).name for entry in content[split]]


def test_monais_split_has_24_training_scans_and_validates_on_the_last_six(btcv: Path, tmp_path: Path) -> None:
    (path,) = main(["--raw_dir", str(btcv), "--output_dir", str(tmp_path)])
    content = content_of(tmp_path)
    assert path == tmp_path / "dataset.json"
    assert names(content, "validation") == [f"img{n:04d}.nii.gz" for n in range(35, 41)]
    expected = [*range(1, 11), *range(21, 35)]
    assert names(content, "training") == [f"img{n:04d}.nii.gz" for n in expected] and len(expected) == 24
    assert names(content, "test") == [f"img{n:04d}.nii.gz" for n in range(61, 81)]
    assert "img0035 to img0040" in content["split"]
    assert [content["labels"][str(value)] for value in (1, 2, 3, 13)] == [
        "spleen",
        "right_kidney",
        "left_kidney",
        "left_adrenal_gland",
    ]


def test_the_datalist_is_what_training_and_inference_read(btcv: Path, tmp_path: Path) -> None:
    prepare_btcv(str(btcv), str(tmp_path))
    cases = load_cases(str(tmp_path), "training", list(ORGANS))
    first = cases[0]
    assert first["image"] == str(btcv / "Training/img/img0001.nii.gz")
    assert first["label"] == str(btcv / "Training/label/label0001.nii.gz")
    assert first["annotated"] == list(ORGANS)
    assert [scan["case"] for scan in scan_inputs(str(tmp_path))] == [f"img{n:04d}" for n in range(61, 81)]


def test_five_folds_hold_out_every_scan_once(btcv: Path, tmp_path: Path) -> None:
    paths = prepare_btcv(str(btcv), str(tmp_path), "five_fold")
    assert [path.parent.name for path in paths] == [f"fold{n}" for n in range(5)]
    folds = [content_of(path.parent) for path in paths]
    held_out = [name for fold in folds for name in names(fold, "validation")]
    assert len(held_out) == len(set(held_out)) == 30
    assert all(len(names(fold, "training")) == 24 and len(names(fold, "test")) == 20 for fold in folds)
    assert folds[2]["split"].startswith("fold 2 of 5")


def test_a_list_of_ones_own_decides_the_split(btcv: Path, tmp_path: Path) -> None:
    mine = {"train": ["img0001", "img0002.nii.gz"], "val": ["img0003"], "test": ["img0040"]}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    prepare_btcv(str(btcv), str(tmp_path), str(tmp_path / "mine.json"))
    content = content_of(tmp_path)
    assert names(content, "training") == ["img0001.nii.gz", "img0002.nii.gz"]
    assert names(content, "validation") == ["img0003.nii.gz"]
    assert names(content, "test")[:2] == ["img0040.nii.gz", "img0061.nii.gz"] and len(content["test"]) == 21


def test_missing_files_are_named_and_nothing_is_written(own_btcv: Path, tmp_path: Path) -> None:
    (own_btcv / "Training/img/img0007.nii.gz").unlink()
    (own_btcv / "Training/label/label0021.nii.gz").unlink()
    (own_btcv / "Testing/img/img0080.nii.gz").unlink()
    with pytest.raises(ValueError) as caught:
        prepare_btcv(str(own_btcv), str(tmp_path / "out"))
    message = str(caught.value)
    assert "3 files are missing" in message and "RawData.zip" in message
    for name in ("Training/img/img0007.nii.gz", "Training/label/label0021.nii.gz", "Testing/img/img0080.nii.gz"):
        assert name in message
    assert not (tmp_path / "out").exists()


def test_a_list_needs_only_the_scans_that_it_names(
    own_btcv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_btcv / "Training/img/img0040.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"give --split that file"):
        prepare_btcv(str(own_btcv), str(tmp_path / "out"))
    (tmp_path / "mine.json").write_text(json.dumps({"train": ["img0001", "img0002"], "val": ["img0003"]}))
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    prepare_btcv("../RawData", str(tmp_path / "out"), str(tmp_path / "mine.json"))
    content = content_of(tmp_path / "out")
    assert names(content, "training") == ["img0001.nii.gz", "img0002.nii.gz"]
    assert content["training"][0]["image"] == str((own_btcv / "Training/img/img0001.nii.gz").resolve())
    (tmp_path / "mine.json").write_text(json.dumps({"train": ["img0001", "img0040"], "val": ["img0003"]}))
    with pytest.raises(ValueError, match=r"1 files are missing.*\n  Training/img/img0040.nii.gz"):
        prepare_btcv("../RawData", str(tmp_path / "out"), str(tmp_path / "mine.json"))


def test_without_the_test_scans_the_message_says_how_to_go_on(own_btcv: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_btcv / "Testing")
    with pytest.raises(ValueError, match=r"20 files are missing.*add --no_test"):
        prepare_btcv(str(own_btcv), str(tmp_path / "out"))
    main(["--raw_dir", str(own_btcv), "--output_dir", str(tmp_path / "out"), "--no_test"])
    assert content_of(tmp_path / "out")["test"] == []


def test_extra_files_are_named_and_left_out(own_btcv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = own_btcv / "Training/img"
    shutil.copy(images / "img0001.nii.gz", images / "img0011.nii.gz")
    shutil.copy(images / "img0001.nii.gz", images / "._img0001.nii.gz")
    (own_btcv / "Testing/img/notes.txt").write_text("hello")
    with caplog.at_level(logging.INFO):
        prepare_btcv(str(own_btcv), str(tmp_path / "out"))
    assert "left out (2): Training/img/img0011.nii.gz; Testing/img/notes.txt" in caplog.text
    assert "img0011" not in (tmp_path / "out/dataset.json").read_text()


def test_a_fourteenth_label_value_is_refused_with_its_file(own_btcv: Path, tmp_path: Path) -> None:
    path = own_btcv / "Training/label/label0005.nii.gz"
    label: Any = nib.load(path)
    voxels = np.asarray(label.dataobj).copy()
    voxels[0, 0, 0] = 14
    save(path, voxels, label.affine)
    with pytest.raises(DatasetError) as caught:
        prepare_btcv(str(own_btcv), str(tmp_path / "out"))
    (problem,) = caught.value.problems
    assert problem.kind is Kind.UNKNOWN_VALUE
    assert problem.where.endswith("label0005.nii.gz") and problem.found.startswith("14, expected among: 0, 1,")
    assert not (tmp_path / "out").exists()


def test_a_truncated_scan_and_a_label_on_another_grid_are_refused_together(own_btcv: Path, tmp_path: Path) -> None:
    scan = own_btcv / "Testing/img/img0070.nii.gz"
    scan.write_bytes(scan.read_bytes()[:2000])
    shutil.copy(own_btcv / "Training/label/label0001.nii.gz", own_btcv / "Training/label/label0003.nii.gz")
    with pytest.raises(DatasetError) as caught:
        prepare_btcv(str(own_btcv), str(tmp_path / "out"))
    assert {problem.kind for problem in caught.value.problems} == {Kind.UNREADABLE, Kind.GRID}


def test_scans_that_differ_from_the_published_facts_are_mentioned(
    btcv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        prepare_btcv(str(btcv), str(tmp_path))
    (line,) = [record.message for record in caplog.records if "published facts" in record.message]
    assert line.startswith("50 of 50 scans differ")
    assert "published 512 x 512 x 85-198" in line and "pixels of 11 mm, published 0.54-0.98 mm" in line


def test_the_folder_may_be_the_one_that_holds_raw_data_and_a_wrong_one_is_answered(btcv: Path, tmp_path: Path) -> None:
    prepare_btcv(str(btcv.parent), str(tmp_path / "out"))
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no 'Training' folder .*imagesTr.*unpack RawData.zip"):
        prepare_btcv(str(tmp_path), str(tmp_path / "out2"))


def test_the_overlays_list_the_organs_in_the_challenges_order() -> None:
    assert load("configs/data/abdomen.yaml")["organs"] == list(ORGANS)
    assert load("configs/data/btcv_12_organs.yaml")["organs"] == list(ORGANS[:12])


def test_the_help_gives_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--split five_fold" in capsys.readouterr().out
