"""Inference on a DICOM series as scanners export it: the same HU, and the same labels at the same place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from config_compositions import INFERENCE, load
from matplotlib.image import imread
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from tiny_weights import SETTINGS, write_weights
from tiny_workflows import run

from scripts.dataset.datalist_file import case_name
from scripts.dataset.inference_inputs import scan_inputs

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between nibabel's world axes (right, anterior, superior) and DICOM's (left, posterior, superior), either way."""
# Slices of a DICOM series are ordered along rows x columns: these are the axes that a series can have by itself.
AXIAL, PRONE, CORONAL, SAGITTAL = "LPS", "RAS", "LIP", "PIR"
HEAD_FIRST = "LPI"  # left-handed
CT_IMAGE_STORAGE, AIR_HU = "1.2.840.10008.5.1.4.1.1.2", -1024


def scan_along(codes: str, phantom_dir: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """A synthetic abdomen with axes along `codes` and three different spacings: voxels [i, j, k] in HU, affine."""
    scan: Any = nib.load(sorted((phantom_dir / "images").iterdir())[0])
    wanted = nib.orientations.axcodes2ornt(codes)
    turned = scan.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(scan.affine), wanted))
    voxels = np.asarray(turned.dataobj, np.int16)[::2]
    return voxels, turned.affine @ np.diag([2.0, 1.0, 1.0, 1.0])


def write_series(folder: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> str:
    """Write one file for each slice [:, :, k], named and numbered against their order, and return the folder."""
    folder.mkdir()
    in_patient = LPS @ affine
    spacing = np.linalg.norm(in_patient[:3, :3], axis=0)
    tags = {"0008|0016": CT_IMAGE_STORAGE, "0008|0060": "CT", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4"}
    # Scanners store values from 0 and the line that makes HU of them.
    tags |= {"0028|1052": str(AIR_HU), "0028|1053": "1"}
    for k in range(voxels.shape[2]):
        number = voxels.shape[2] - k
        one = itk.image_from_array(np.ascontiguousarray(voxels[:, :, k].T[None]))
        one.SetSpacing(spacing.tolist())
        one.SetDirection(itk.matrix_from_array(in_patient[:3, :3] / spacing))
        one.SetOrigin((in_patient @ [0, 0, k, 1])[:3].tolist())
        for tag, value in {**tags, "0020|0013": str(number)}.items():
            one.GetMetaDataDictionary()[tag] = value
        encoder = itk.GDCMImageIO.New()
        encoder.SetKeepOriginalUID(True)
        itk.imwrite(one, str(folder / f"{number:04d}.dcm"), imageio=encoder)
    return str(folder)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Tiny networks with random weights on disk that label much of any scan."""
    # A workflow sets these for the whole process.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = {"model_path": write_weights(tmp_path / "model.pt"), "output_dir": str(tmp_path / "out")}
    return {**SETTINGS, **written, "save_probabilities": True}


def save_nifti(path: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> str:
    """Write the volume as NIfTI and return its path."""
    image: Any = nib.Nifti1Image(voxels, affine)
    nib.save(image, path)
    return str(path)


def loaded(path: str) -> Any:
    """A scan as the config reads it, channel first, in an image of nibabel."""
    (case,) = scan_inputs(path)
    reading = load(INFERENCE)["preprocessing"]["transforms"][:2]
    assert [transform["_target_"] for transform in reading] == ["LoadImaged", "EnsureChannelFirstd"]
    reader = ConfigParser({"_target_": "Compose", "transforms": reading}).get_parsed_content()
    scan = reader(case)["image"]
    assert scan.shape[0] == 1
    assert scan.shape[1:] == tuple(scan.meta["spatial_shape"])
    np.testing.assert_array_equal(scan.affine, scan.meta["original_affine"])
    assert scan.meta["filename_or_obj"] == path
    image: Any = nib.Nifti1Image
    return image(scan[0].numpy(), scan.affine.numpy())


@pytest.mark.parametrize("codes", [AXIAL, PRONE, CORONAL, SAGITTAL])
def test_a_series_is_read_with_the_voxels_and_the_affine_of_the_same_nifti(
    codes: str, phantom_dir: Path, tmp_path: Path
) -> None:
    voxels, affine = scan_along(codes, phantom_dir)
    series = loaded(write_series(tmp_path / "series", voxels, affine))
    nifti = loaded(save_nifti(tmp_path / "scan.nii.gz", voxels, affine))
    np.testing.assert_array_equal(series.dataobj, voxels)
    np.testing.assert_array_equal(series.dataobj, nifti.dataobj)
    np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-4)


def test_slices_from_head_to_feet_are_read_from_feet_to_head_at_the_same_place(
    phantom_dir: Path, tmp_path: Path
) -> None:
    voxels, affine = scan_along(HEAD_FIRST, phantom_dir)
    series = loaded(write_series(tmp_path / "series", voxels, affine))
    feet_first, feet_first_affine = scan_along(AXIAL, phantom_dir)
    np.testing.assert_array_equal(series.dataobj, voxels[:, :, ::-1])
    np.testing.assert_array_equal(series.dataobj, feet_first)
    np.testing.assert_allclose(series.affine, feet_first_affine, atol=1e-4)


def test_inference_on_a_series_gives_the_labels_of_the_same_nifti_on_its_grid(
    phantom_dir: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    voxels, affine = scan_along(CORONAL, phantom_dir)
    run("inference", dataset_dir=write_series(tmp_path / "ct.1", voxels, affine), save_overlay=True, **settings)
    run("inference", dataset_dir=save_nifti(tmp_path / "scan.nii.gz", voxels, affine), **settings)
    out = Path(settings["output_dir"])
    results: dict[str, Any] = {
        case_name(path.name).removesuffix("_seg"): nib.load(path) for path in out.glob("*.nii.gz")
    }
    assert results.keys() == {"ct.1", "ct.1_scores", "scan", "scan_scores"}
    assert results["ct.1"].shape == voxels.shape
    np.testing.assert_allclose(results["ct.1"].affine, affine, atol=1e-4)
    np.testing.assert_allclose(results["ct.1_scores"].affine, results["scan_scores"].affine, atol=1e-4)
    np.testing.assert_allclose(results["ct.1_scores"].get_fdata(), results["scan_scores"].get_fdata(), atol=1e-2)
    labels = np.asarray(results["ct.1"].dataobj)
    assert len(np.unique(labels)) > 2 and 0.05 < np.mean(labels > 0) < 0.95  # something that could be misplaced
    # Decimals of a DICOM header are rounded, which may decide a voxel on a border otherwise.
    assert np.mean(labels != np.asarray(results["scan"].dataobj)) < 1e-3
    picture = imread(out / "ct.1_overlay.png")
    assert float(np.ptp(picture[..., :3], axis=2).max()) > 0.2  # coloured: the labels were drawn over the scan
