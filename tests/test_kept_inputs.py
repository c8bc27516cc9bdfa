"""No command changes a file that it reads: the inputs are hashed before and after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from kept_files import unchanged

from scripts.dataset.datalists import load_cases
from scripts.dataset_report.__main__ import report_dataset
from scripts.export.torchscript import export_torchscript
from scripts.files.result_files import claim_outputs
from scripts.prepare.merge import main as merge
from scripts.prepare.own import main as prepare_own
from scripts.prepare.scan_folders import find_scans
from scripts.runtime.run_folder import claim


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Four scans with labels, as a user has them."""
    rng = np.random.default_rng(0)
    for number in range(4):
        for kind in ("scans", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            voxels = rng.integers(-1000, 1000, (24, 24, 12)).astype(np.int16)
            label = np.zeros((24, 24, 12), np.uint8)
            label[5:15, 5:15, 3:9] = 1
            nib.save(
                nib.Nifti1Image(voxels if kind == "scans" else label, np.diag([5.0, 5.0, 5.0, 1.0])),
                tmp_path / kind / f"p{number}.nii.gz",
            )
    return tmp_path


def prepared(cohort: Path, output: Path) -> None:
    images, labels = str(cohort / "scans"), str(cohort / "labels")
    assert (
        prepare_own(["--images", images, "--labels", labels, "--values", "1=liver", "--output_dir", str(output)]) == 0
    )


def test_preparing_into_the_folder_of_the_scans_leaves_them(cohort: Path) -> None:
    with unchanged(cohort):
        prepared(cohort, cohort / "scans")
    assert (cohort / "scans/dataset.json").is_file()
    with unchanged(cohort):
        prepared(cohort, cohort / "other")


def test_a_preparation_is_repeated_but_replaces_no_other_and_no_edited_config(
    cohort: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(cohort, cohort / "mine")
    with unchanged(cohort / "scans"), unchanged(cohort / "mine"):
        prepared(cohort, cohort / "mine")
    (cohort / "mine/cohort.yaml").write_text("organs: [liver]\n")
    with unchanged(cohort):
        prepared(cohort, cohort / "mine")
    assert "cohort.yaml is kept" in caplog.text
    (cohort / "labels/p0.nii.gz").unlink()
    with unchanged(cohort), pytest.raises(ValueError, match=r"dataset\.json is there already: give another output"):
        prepared(cohort, cohort / "mine")
    (cohort / "mine/dataset.json").unlink()
    with unchanged(cohort), pytest.raises(ValueError, match=r"report\.html is there already"):
        prepared(cohort, cohort / "mine")


def test_a_merged_data_set_does_not_replace_one_of_its_parts(cohort: Path) -> None:
    prepared(cohort, cohort / "mine")
    shutil.copytree(cohort / "mine", cohort / "theirs")
    for output in (cohort / "mine", cohort / "link"):
        (cohort / "link").is_symlink() or (cohort / "link").symlink_to(cohort / "theirs")
        with unchanged(cohort), pytest.raises(ValueError, match=r"dataset\.json would be written over .* an input"):
            merge([str(cohort / "mine"), str(cohort / "theirs"), "--output_dir", str(output)])


def test_a_report_does_not_replace_the_datalist_or_a_scan(cohort: Path) -> None:
    prepared(cohort, cohort / "mine")
    for output in (cohort / "mine/dataset.json", cohort / "scans/p0.nii.gz"):
        with unchanged(cohort), pytest.raises(ValueError, match="would be written over"):
            report_dataset(str(cohort / "mine"), str(output), ["liver"])


def test_an_export_does_not_replace_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    shutil.copyfile("models/model.pt", weights)
    with unchanged(tmp_path), pytest.raises(ValueError, match="would be written over .* an input"):
        export_torchscript(str(weights), "configs/inference.yaml", model_path=str(weights))


def test_a_training_does_not_replace_weights_of_another(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    with unchanged(tmp_path), pytest.raises(ValueError, match="holds a model.pt that no training of this folder wrote"):
        claim(tmp_path, {"seed": 0}, {})


def test_results_are_no_scans_of_a_cohort_but_may_be_its_labels(cohort: Path) -> None:
    for label in sorted((cohort / "labels").iterdir()):
        shutil.copyfile(label, cohort / "scans" / label.name.replace(".nii.gz", "_seg.nii.gz"))
    shutil.rmtree(cohort / "labels")
    found = find_scans(str(cohort / "scans"), str(cohort / "scans/*_seg.nii.gz"))
    assert [(scan.case, Path(str(scan.label)).name) for scan in found] == [
        (f"p{number}", f"p{number}_seg.nii.gz") for number in range(4)
    ]


def test_a_case_of_a_datalist_cannot_leave_the_output_folder(cohort: Path) -> None:
    prepared(cohort, cohort / "mine")
    path = cohort / "mine/dataset.json"
    content = json.loads(path.read_text())
    content["training"][0]["case"] = "../outside"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"\.\./outside"):
        load_cases(str(cohort / "mine"), "training", ["liver"])


def test_too_little_space_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MiB free and the results may need"):
        claim_outputs([tmp_path / "out/a_seg.nii.gz"], [], space=2**60)
    assert not (tmp_path / "out").exists()
