"""The command for people who know no MONAI: one line, and everything about every scan is there."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from config_compositions import ROOT
from ct_series import phantom_scan, write_ct_series
from tiny_weights import SETTINGS, write_trained
from tiny_workflows import run

from scripts.files.result_files import bundle_identity, weights_digest
from scripts.outputs.measures import OrganFinding
from scripts.runtime.composition import composed
from scripts.runtime.run_folder import claim
from scripts.segment.__main__ import main
from scripts.segment.workflow import Outcome

ENDINGS = ("_organs.csv", "_overlay.png", "_report.html", "_seg.nii.gz", "_statistics.json")


@pytest.fixture(autouse=True)
def undisturbed_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command sets these for the whole process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for tiny weights and the config that they were made with."""
    path, configs = write_trained(tmp_path_factory.mktemp("weights"))
    return ["--model_path", path, "--run_dir", *configs, "--device", "cpu"]


@pytest.fixture
def study(phantom_dir: Path, tmp_path: Path) -> Path:
    """A folder as from an archive: a localizer, and a CT in a subfolder."""
    voxels, affine = phantom_scan(phantom_dir)
    write_ct_series(tmp_path / "patient_7" / "venous", voxels, affine)
    localizer = {"series": "1.9", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_ct_series(tmp_path / "patient_7" / "scout", voxels[:, :, :1], affine, **localizer)
    return tmp_path / "patient_7"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_command_turns_a_study_into_labels_picture_report_and_dicom_results(
    study: Path, weights: list[str], phantom_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(study), "--output_dir", str(out), *weights]) == 0
    endings = (*ENDINGS, "_seg.dcm", "_rtstruct.dcm")
    assert names_in(out) == sorted(["manifest.json", *(f"patient_7{ending}" for ending in endings)])
    said, progress = capfd.readouterr()
    assert bundle_identity().intended_use in said and "1 scan: patient_7\n" in said
    assert "1 scan segmented in" in said and "patient_7_report.html, patient_7_rtstruct.dcm, patient_7_seg.dcm" in said
    assert "organ patches: 100%" in progress and "WARNING" not in said + progress

    voxels, affine = phantom_scan(phantom_dir)
    result: Any = nib.load(out / "patient_7_seg.nii.gz")
    labels = np.asarray(result.dataobj)
    assert labels.shape == voxels.shape and len(np.unique(labels)) > 2
    np.testing.assert_allclose(result.affine, affine, atol=1e-3)
    # The workflow of `monai.bundle run inference` gives the same labels.
    settings = {**SETTINGS, "model_path": weights[1], "dataset_dir": str(study), "output_dir": str(tmp_path / "run")}
    run("inference", **settings)
    again: Any = nib.load(tmp_path / "run" / "patient_7_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(again.dataobj), labels)
    # DICOM-SEG: axes slice, row, column.
    segments = hd.seg.segread(out / "patient_7_seg.dcm").get_volume(combine_segments=True)
    head_first = segments.array[::-1] if segments.affine[2, 0] < 0 else segments.array
    np.testing.assert_array_equal(head_first.transpose(2, 1, 0), labels)
    contoured = pydicom.dcmread(out / "patient_7_rtstruct.dcm").ROIContourSequence
    assert [one.ReferencedROINumber for one in contoured if "ContourSequence" in one] == list(np.unique(labels)[1:])
    table = pd.read_csv(out / "patient_7_organs.csv")
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    for row in table.itertuples():
        found = labels == row.class_index
        assert row.volume_ml == pytest.approx(found.sum() * voxel_ml, rel=1e-3, abs=1e-3)
        assert not found.any() or row.mean_hu == pytest.approx(voxels[found].mean(), abs=0.01)


def test_a_run_needs_no_config(phantom_dir: Path, weights: list[str], tmp_path: Path) -> None:
    scan, run_dir = sorted((phantom_dir / "images").iterdir())[0], tmp_path / "mine"
    claim(run_dir, composed(weights[3:5]).config, {})
    shutil.copy(weights[1], run_dir / "model.pt")
    for name, options in (("run", ["--run_dir", str(run_dir), "--device", "cpu"]), ("config", weights)):
        assert main([str(scan), "--output_dir", str(tmp_path / name), "--write", "report", *options]) == 0
    for path in (tmp_path / "config").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "run" / path.name).read_bytes()


@pytest.mark.parametrize("wanted", [["liver"], ["aorta", "spleen"]])
def test_the_organs_that_are_not_wanted_become_background_and_the_others_stay(
    wanted: list[str], phantom_dir: Path, weights: list[str], tmp_path: Path
) -> None:
    scan, labels = sorted((phantom_dir / "images").iterdir())[0], {}
    for name, options in (("all", []), ("some", ["--organs", *wanted])):
        assert main([str(scan), "--output_dir", str(tmp_path / name), "--write", "report", *options, *weights]) == 0
        image: Any = nib.load(tmp_path / name / scan.name.replace(".nii.gz", "_seg.nii.gz"))
        labels[name] = np.asarray(image.dataobj)
    indices = [SETTINGS["organs"].index(organ) + 1 for organ in wanted]
    assert set(np.unique(labels["some"])) == {0, *indices}
    for index in indices:
        both = np.sum((labels["all"] == index) & (labels["some"] == index))
        assert 2 * both / (np.sum(labels["all"] == index) + np.sum(labels["some"] == index)) > 0.99
    (table,) = (tmp_path / "some").glob("*_organs.csv")
    assert pd.read_csv(table)["organ"].tolist() == [organ for organ in SETTINGS["organs"] if organ in wanted]


def test_dicom_results_name_the_wanted_organs_alone(study: Path, weights: list[str], tmp_path: Path) -> None:
    options = ["--organs", "liver", "spleen", "--write", "dicom_seg", "rtstruct", *weights]
    assert main([str(study), "--output_dir", str(tmp_path / "out"), *options]) == 0
    segments = pydicom.dcmread(tmp_path / "out/patient_7_seg.dcm").SegmentSequence
    assert [one.SegmentLabel for one in segments] == ["spleen", "liver"]
    rois = pydicom.dcmread(tmp_path / "out/patient_7_rtstruct.dcm").StructureSetROISequence
    assert [roi.ROIName for roi in rois] == ["spleen", "liver"]


def test_a_nifti_needs_no_dicom_and_what_is_not_wanted_is_not_written(
    phantom_dir: Path, weights: list[str], tmp_path: Path
) -> None:
    scan = sorted((phantom_dir / "images").iterdir())[0]
    out = tmp_path / "out"
    assert main([str(scan), "--output_dir", str(out), "--write", "dicom_seg", "overlay", *weights]) == 0
    name = scan.name.removesuffix(".nii.gz")
    assert names_in(out) == ["manifest.json", f"{name}_overlay.png", f"{name}_seg.nii.gz"]


def test_results_of_an_earlier_run_are_not_taken_for_those_of_this_one(
    phantom_dir: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((phantom_dir / "images").iterdir())[0]
    options = [str(scan), "--output_dir", str(tmp_path), *weights]
    assert main([*options, "--write", "statistics"]) == 0
    capsys.readouterr()
    assert main([*options, "--organs", "liver", "--write"]) == 0
    name = scan.name.removesuffix(".nii.gz")
    assert (tmp_path / f"{name}_statistics.json").is_file(), "with the findings of all organs"
    assert capsys.readouterr().out.splitlines()[-1].strip() == f"{name}_seg.nii.gz"


def test_a_scan_that_fails_is_said_and_the_others_are_done(
    phantom_dir: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    good = sorted((phantom_dir / "images").iterdir())[0]
    (scans / good.name).write_bytes(good.read_bytes())
    (scans / "broken.nii.gz").write_bytes(good.read_bytes()[:1000])
    assert main([str(scans), "--output_dir", str(tmp_path / "out"), "--write", *["overlay"], *weights]) == 1
    assert names_in(tmp_path / "out") == [
        "manifest.json",
        good.name.replace(".nii.gz", "_overlay.png"),
        good.name.replace(".nii.gz", "_seg.nii.gz"),
    ]
    said = capsys.readouterr()
    assert "2 scans: " in said.out and "1 scan segmented" in said.out
    assert "error: broken: " in said.err and "Traceback" not in said.err


def save_without_orientation(scan: Path, path: Path) -> None:
    """A copy of a scan that the reader warns about."""
    image: Any = nib.load(scan)
    copy: Any = nib.Nifti1Image(image.get_fdata(dtype=np.float32), None)
    copy.header.set_zooms(image.header.get_zooms())
    nib.save(copy, path)


def test_json_is_a_line_for_each_scan_and_nothing_else_on_stdout(
    phantom_dir: Path,
    weights: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, out = sorted((phantom_dir / "images").iterdir())[0], tmp_path / "out"
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/broken.nii.gz").write_bytes(good.read_bytes()[:1000])
    shutil.copy(good, tmp_path / "scans/good.nii.gz")
    save_without_orientation(good, tmp_path / "scans/odd.nii.gz")
    options = ["--json", "--organs", "liver", "spleen", "--write", "report"]
    command = [str(tmp_path / "scans"), "--output_dir", str(out), *options, *weights]
    assert main(command) == 1
    said = capfd.readouterr()
    broken, whole, odd = map(json.loads, said.out.splitlines())
    assert "3 scans: broken, good, odd" in said.err and "2 scans segmented" in said.err
    assert broken["case"] == "broken" and f"error: broken: {broken['error']}" in said.err
    assert broken["files"] == broken["organs"] == broken["warnings"] == []
    endings = ("_organs.csv", "_report.html", "_seg.nii.gz", "_statistics.json")
    assert whole["files"] == [str(out / f"good{ending}") for ending in endings] and whole["error"] is None
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert odd["warnings"] == warned and len(warned) == 1 and not whole["warnings"]
    table = pd.read_csv(out / "good_organs.csv")
    assert [organ["organ"] for organ in whole["organs"]] == table["organ"].tolist() == ["spleen", "liver"]
    for organ, row in zip(whole["organs"], table.itertuples(), strict=True):
        assert (organ["class_index"], organ["cut_off"]) == (row.class_index, row.cut_off)
        assert organ["volume_ml"] == pytest.approx(row.volume_ml, abs=1e-3)
        assert organ["mean_hu"] == pytest.approx(row.mean_hu, abs=1e-2)
        assert organ["soft_dice"] == row.soft_dice > 0  # the predictor's own, of one measurement
    statistics = json.loads((out / "odd_statistics.json").read_text())
    listed = json.loads((out / "manifest.json").read_text())["cases"]["odd"]
    assert statistics["organs"] == odd["organs"] and statistics["warnings"] == listed["warnings"] == warned
    made_with = statistics["run"]
    assert (made_with["bundle"], made_with["weights_sha256"]) == (listed["bundle"], listed["weights_sha256"])
    assert made_with["versions"]["torch"] == torch.__version__ and made_with["settings"]
    assert main([*command, "--quiet"]) == 1  # those that are done already are answered too
    again = capfd.readouterr()
    assert again.out == said.out and again.err == f"error: broken: {broken['error']}\n"


def test_a_scan_unlike_those_of_training_is_warned_about_wherever_one_looks(
    phantom_dir: Path, weights: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scan, own = sorted((phantom_dir / "images").iterdir())[0], tmp_path / "own/model.pt"
    own.parent.mkdir()
    shutil.copy(weights[1], own)
    limits = {"known": {"air": {"air": [-5000.0, 1.0]}}, "limits": {"air": 1.0}}
    content = {"weights_sha256": weights_digest(own), "plausible": limits}
    (own.parent / "quality.json").write_text(json.dumps(content))
    options = [*weights, "--model_path", str(own), "--write", "report", "--output_dir", str(tmp_path / "out")]
    assert main([str(scan), "--json", *options]) == 0
    answer, said = capfd.readouterr()
    (line,) = json.loads(answer)["warnings"]
    assert line.startswith(f"{scan.name.removesuffix('.nii.gz')}: unlike the training scans: the lowest HU")
    assert f"    {line}\n" in said
    (page,), (statistics,) = ((tmp_path / "out").glob(f"*{ending}") for ending in ("_report.html", "_statistics.json"))
    assert f"Warning: {line}" in page.read_text(encoding="utf-8")
    assert json.loads(statistics.read_text())["warnings"] == [line]


def test_the_end_says_what_to_look_at() -> None:
    sure, unsure = (OrganFinding(organ, 1, 9.0, 40.0, False, 0.9, dice) for organ, dice in (("a", 0.6), ("b", 0.414)))
    outcome = Outcome("anna", organs=[sure, unsure, OrganFinding("c", 2, 0.0, None, False)], warnings=["anna: odd"])
    assert outcome.remarks() == ["anna: odd", "look at b (0.41): low estimated Dice"]
    assert Outcome("ben", organs=[sure]).remarks() == []


def test_where_every_scan_fails_each_is_said_in_a_sentence(
    phantom_dir: Path, weights: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(sorted((phantom_dir / "images").iterdir())[0].read_bytes()[:1000])
    assert main([str(tmp_path / "broken.nii.gz"), "--output_dir", str(tmp_path / "out"), "--quiet", *weights]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: broken: {tmp_path / 'broken.nii.gz'}")


def test_quiet_prints_warnings_and_errors_only(
    phantom_dir: Path, weights: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((phantom_dir / "images").iterdir())[0]
    assert main([str(scan), "--output_dir", str(tmp_path / "out"), "--quiet", *weights]) == 0
    assert capfd.readouterr() == ("", "")
    save_without_orientation(scan, tmp_path / "odd.nii.gz")
    command = [sys.executable, "-m", "scripts.segment", str(tmp_path / "odd.nii.gz"), "--quiet", *weights]
    done = subprocess.run([*command, "--output_dir", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "", 1), done.stderr
    assert done.stderr.startswith(f"{tmp_path / 'odd.nii.gz'}: header has neither")
    assert main([str(tmp_path / "none"), "--quiet", *weights]) == 1
    said = capfd.readouterr()
    assert said.out == "" and said.err.startswith("error: input ") and said.err.count("\n") == 1


PHOTOGRAPHS = [str(ROOT / "configs" / name) for name in ("train.yaml", "data/voc.yaml")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere"], "error: input 'nowhere' does not exist; expected a volume"),
        (["{study}", "--series", "7"], "error: folder {study} has no CT series '7'; give the number or the UID"),
        (["{study}", "--model_path", "none.pt"], "error: no weights at none.pt: train or download them"),
        (["{study}", "--run_dir", "none"], "error: none holds no config.yaml: name the folder of a training"),
        (["{study}", "--run_dir", "a.yaml", "b.yaml"], "error: --run_dir names config files that do not exist: a.yaml"),
        (["{study}", "--run_dir", *PHOTOGRAPHS], "voc.yaml'] segments photographs: use the inference workflow"),
        (["{study}", "--organs", "aorta", "livr"], "error: 'livr' is no organ of this network, give 'liver'"),
        (["{study}", "--device", "cuda:-1"], "error: device 'cuda:-1' is unknown"),
        (["{study}", "--device", "gpu"], "error: device 'gpu' is unknown: give cpu, cuda"),
        (["scan #2.nii"], "error: input 'scan #2.nii' does not exist; expected a volume"),
        (["$HOME@x%y.nii"], "error: input '$HOME@x%y.nii' does not exist; expected a volume"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_nothing_is_written(
    options: list[str],
    sentence: str,
    study: Path,
    weights: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [option.format(study=study) for option in options]
    fitting = [] if "--run_dir" in given else weights
    assert main([*fitting, *given, "--output_dir", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert sentence.format(study=study) in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_the_series_in_a_folder_are_listed(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--list_series"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("  1: 'abdomen venous', CT, ") and second.endswith("UID 1.9 (left aside: localizer)")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--list_series"]) == 1


def test_an_option_that_does_not_exist_is_refused_before_anything_is_imported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["scan.nii", "--write", "everything"])
    assert caught.value.code == 2
    assert "invalid choice: 'everything'" in capsys.readouterr().err
