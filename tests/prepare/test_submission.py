"""The label maps for the challenge: original names, values and grid, or a refusal before anything is written."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from kept_files import unchanged
from numpy.typing import NDArray

from development.submission import challenge_values, main, write_submission
from scripts.inference.predictor import encode_names
from scripts.outputs.scan_outputs import write_nifti
from scripts.prepare.btcv import ORGANS, TEST_NUMBERS

MODEL_ORGANS = ["liver", "spleen", "left_adrenal_gland"]


def load(path: Path) -> Any:
    return nib.load(path)


def predicted(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, len(MODEL_ORGANS) + 1, shape).astype(np.uint8)


@pytest.fixture
def segmentations(btcv: Path, tmp_path: Path) -> Path:
    """Label maps of the test scans as inference writes them, by weights with three organs in an order of their own."""
    for number in TEST_NUMBERS:
        scan = load(btcv / f"Testing/img/img{number:04d}.nii.gz")
        write_nifti(tmp_path / f"segmentations/img{number:04d}_seg.nii.gz", predicted(scan.shape, number), scan.affine)
    torch.save({"organ_names": encode_names(MODEL_ORGANS)}, tmp_path / "model.pt")
    return tmp_path / "segmentations"


def options(btcv: Path, segmentations: Path, **changes: str) -> list[str]:
    given = {
        "raw_dir": str(btcv),
        "segmentations": str(segmentations),
        "model_path": str(segmentations.parent / "model.pt"),
        "output_dir": str(segmentations.parent / "submission"),
        **changes,
    }
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def test_the_files_have_the_challenges_names_values_and_grid(
    btcv: Path, segmentations: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = main(options(btcv, segmentations))
    names = [f"label{number:04d}.nii.gz" for number in TEST_NUMBERS]
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == names and opened.testzip() is None
    assert sorted(path.name for path in (segmentations.parent / "submission").iterdir()) == names
    for number in TEST_NUMBERS:
        scan = load(btcv / f"Testing/img/img{number:04d}.nii.gz")
        label = load(segmentations.parent / f"submission/label{number:04d}.nii.gz")
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(label.affine, scan.affine)
        for form in ("sform", "qform"):
            assert np.array_equal(getattr(label, f"get_{form}")(), getattr(scan, f"get_{form}")())
        # Class indices 0, 1, 2, 3 are background, liver, spleen and left adrenal gland: 0, 6, 1 and 13 there.
        expected = np.array([0, 6, 1, 13])[predicted(scan.shape, number)]
        assert np.array_equal(np.asarray(label.dataobj), expected)
    assert "do not know right_kidney, left_kidney" in caplog.text


def test_the_value_of_an_organ_is_its_place_in_the_challenges_list() -> None:
    assert challenge_values(ORGANS).tolist() == list(range(14))
    with pytest.raises(ValueError, match="the challenge has no label for duodenum; its organs are: spleen"):
        challenge_values(["liver", "duodenum"])


def test_every_unfit_label_map_is_named_and_nothing_is_written(btcv: Path, segmentations: Path) -> None:
    scan = load(btcv / "Testing/img/img0062.nii.gz")
    (segmentations / "img0061_seg.nii.gz").unlink()
    write_nifti(segmentations / "img0062_seg.nii.gz", predicted((4, 4, 4), 0), scan.affine)
    turned = scan.affine @ np.diag([1.0, 1.0, 1.01, 1.0])
    write_nifti(segmentations / "img0063_seg.nii.gz", predicted(load_shape(btcv, 63), 0), turned)
    too_high = np.full(load_shape(btcv, 64), 4, np.uint8)
    write_nifti(segmentations / "img0064_seg.nii.gz", too_high, load(btcv / "Testing/img/img0064.nii.gz").affine)
    output = segmentations.parent / "out"
    with pytest.raises(ValueError) as caught:
        write_submission(str(btcv), str(segmentations), MODEL_ORGANS, str(output))
    message = str(caught.value)
    assert "cannot be submitted (4); segment the scans again" in message
    assert "img0061_seg.nii.gz: does not exist" in message
    assert "img0062_seg.nii.gz: shape (4, 4, 4), expected the image's" in message
    assert "img0063_seg.nii.gz: affine puts a corner" in message
    assert "img0064_seg.nii.gz: class index 4, expected 0 to 3" in message
    assert not output.exists()


def load_shape(btcv: Path, number: int) -> tuple[int, ...]:
    shape: tuple[int, ...] = load(btcv / f"Testing/img/img{number:04d}.nii.gz").shape
    return shape


def test_weights_that_are_not_there_or_do_not_know_their_organs_are_refused(btcv: Path, segmentations: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights at .*nowhere.pt"):
        main(options(btcv, segmentations, model_path=str(segmentations / "nowhere.pt")))
    torch.save({"weight": torch.zeros(1)}, segmentations / "other.pt")
    with pytest.raises(ValueError, match="other.pt does not know its organs"):
        main(options(btcv, segmentations, model_path=str(segmentations / "other.pt")))


def test_a_submission_changes_no_input_and_replaces_no_other(btcv: Path, segmentations: Path) -> None:
    with unchanged(btcv), unchanged(segmentations.parent):
        main(options(btcv, segmentations))
    with unchanged(segmentations.parent), pytest.raises(ValueError, match=r"label0061\.nii\.gz is there already"):
        main(options(btcv, segmentations))
