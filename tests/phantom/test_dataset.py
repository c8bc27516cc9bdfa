"""Writing the synthetic abdomen: layout, nothing half written, nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from phantom_people import TINY, tiny_case

from development.phantom.__main__ import build_parser, main
from development.phantom.dataset import write_phantom_dataset
from development.phantom.tissues import ORGANS, PHASES


def load(path: Path) -> Any:
    return nibabel.load(path)


def test_the_data_set_has_the_decathlon_layout(tmp_path: Path) -> None:
    path = Path(write_phantom_dataset(str(tmp_path), 2, 1, 1, partial_fraction=0.5, **TINY))
    content = json.loads(path.read_text())
    assert path == tmp_path / "dataset.json"
    assert content["labels"] == {"0": "background", **{str(i): organ for i, organ in enumerate(ORGANS, 1)}}
    assert content["modality"] == {"0": "CT"}
    assert [len(content[split]) for split in ("training", "validation", "test")] == [2, 1, 1]
    for split in ("training", "validation", "test"):
        for entry in content[split]:
            image, label = (load(tmp_path / entry[key]) for key in ("image", "label"))
            assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
            assert np.allclose(image.affine, label.affine) and image.shape == label.shape
            present = {ORGANS[index - 1] for index in np.unique(np.asarray(label.dataobj)) if index}
            assert present <= set(entry["annotated"])
            assert entry["phase"] in PHASES
    assert len(content["training"][1]["annotated"]) < len(ORGANS)
    assert all(entry["annotated"] == list(ORGANS) for entry in content["validation"] + content["test"])
    assert not [p for p in tmp_path.rglob(".*")], "a temporary file was left"


def test_files_hold_exactly_the_case_made_in_memory(tmp_path: Path) -> None:
    write_phantom_dataset(str(tmp_path), 2, 0, 0, seed=4, **TINY)
    case, image = tiny_case(1, seed=4), load(tmp_path / "images" / "phantom_001.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), case.image)
    assert np.allclose(image.affine, case.affine, atol=1e-3)


def test_a_second_run_keeps_the_files_and_an_interrupted_one_is_completed(tmp_path: Path) -> None:
    path = write_phantom_dataset(str(tmp_path), 2, 0, 1, **TINY)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*")}
    assert write_phantom_dataset(str(tmp_path), 2, 0, 1, **TINY) == path
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*")} == before

    voxels = np.asarray(load(tmp_path / "images" / "phantom_001.nii.gz").dataobj)
    (tmp_path / "labels" / "phantom_001.nii.gz").unlink()
    (tmp_path / "dataset.json").unlink()
    write_phantom_dataset(str(tmp_path), 2, 0, 1, **TINY)
    assert set(tmp_path.rglob("*.*")) == set(before)
    assert np.array_equal(np.asarray(load(tmp_path / "images" / "phantom_001.nii.gz").dataobj), voxels)
    untouched = tmp_path / "images" / "phantom_000.nii.gz"
    assert untouched.stat().st_mtime_ns == before[untouched]


@pytest.mark.parametrize("is_complete", [True, False])
def test_other_arguments_in_the_same_folder_are_refused_by_name(tmp_path: Path, is_complete: bool) -> None:
    path = Path(write_phantom_dataset(str(tmp_path), 1, 0, 0, **TINY))
    if not is_complete:
        path.unlink()
    with pytest.raises(ValueError, match="seed is 0 there and 1 here.*another output_dir, or delete"):
        write_phantom_dataset(str(tmp_path), 1, 0, 0, seed=1, **TINY)


def test_a_data_set_of_real_scans_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"name": "clinic", "training": []}')
    with pytest.raises(ValueError, match="no synthetic abdomen: give another output_dir"):
        write_phantom_dataset(str(tmp_path), 1, 0, 0, **TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["dataset.json"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"training": 0, "validation": 0, "test": 0}, "numbers of cases"),
        ({"training": -1}, "numbers of cases"),
        ({"partial_fraction": 1.5}, "within 0 and 1, got 1.5"),
        ({"in_plane_spacing": (3.0, 2.0)}, "in_plane_spacing must be a smallest and a largest"),
        ({"slice_spacing": (0.0, 2.0)}, "slice_spacing must be a smallest and a largest"),
        ({"seed": -1}, "seed and number must be 0 or more"),
    ],
)
def test_wrong_arguments_are_explained_and_leave_no_file(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantom_dataset(str(tmp_path / "new"), **wrong)
    assert not list(tmp_path.iterdir())


def test_the_command_line_has_the_defaults_of_the_function(tmp_path: Path) -> None:
    options = build_parser().parse_args([])
    assert (options.training, options.validation, options.test, options.seed) == (16, 6, 2, 0)
    arguments = ["--output_dir", str(tmp_path), "--training", "1", "--validation", "0", "--test", "0"]
    path = main([*arguments, "--in_plane_spacing", "9", "9", "--slice_spacing", "9", "9"])
    assert path == write_phantom_dataset(str(tmp_path), 1, 0, 0, **TINY)
