"""Labels lie on the anatomy for nibabel and for ITK, whatever the header of the scan; or the refusal names the file."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from scripts.outputs.scan_outputs import SaveImageLabelsd
from scripts.preprocessing.scan_reader import WARNINGS, check_scan, load_volume
from scripts.preprocessing.working_grid import ScoresToScanLabelsd, ToWorkingGridd

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING = np.array([2.0, 1.5, 3.0])
BODY, AIR = 200.0, -1000.0


def blob(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A body of soft tissue that fills one corner: no turn of the axes leaves it where it is."""
    hu = np.full(shape, AIR, np.float32)
    hu[: shape[0] // 2, : shape[1] // 2 + 1, 1 : shape[2] // 2 + 2] = BODY
    return hu


def affine_of(rng: np.random.Generator, turned: bool = True) -> NDArray[np.float64]:
    affine = np.eye(4)
    axes = Rotation.random(rng=rng).as_matrix() if turned else np.eye(3)
    affine[:3, :3] = axes @ np.diag(SPACING * rng.choice([-1.0, 1.0], 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def by_itk(path: Path) -> NDArray[np.float64]:
    """Where ITK, and with it 3D Slicer and ITK-SNAP, puts a file (RAS)."""
    image: Any = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


def segment(path: Path) -> Path:
    """Reader, check, working grid, a predictor that takes what is not air, labels, writer."""
    item = ToWorkingGridd("image", [2.0, 2.0, 2.0])({"image": check_scan(load_volume(path))})
    body = (item["image"].as_tensor() > (BODY + AIR) / 2).float()
    item["pred"] = np.concatenate([1 - body.numpy(), body.numpy()])
    SaveImageLabelsd("pred", str(path.parent / "out"))(ScoresToScanLabelsd("pred")(item))
    return path.parent / "out" / f"{path.name.split('.')[0]}_seg.nii.gz"


def assert_on_anatomy(scan: Path, labels: Path, hu: NDArray[Any]) -> None:
    found, expected = np.asarray(nib.load(labels).dataobj) == 1, hu == BODY
    assert found.shape == expected.shape
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.8
    if scan.name.endswith((".nii", ".nii.gz")):
        affine = nib.load(scan).affine
        np.testing.assert_allclose(nib.load(labels).affine, affine, atol=1e-12 * np.abs(affine).max())
        assert nib.load(labels).header["sizeof_hdr"] == nib.load(scan).header["sizeof_hdr"]
    if itk.ImageIOFactory.CreateImageIO(str(scan), itk.CommonEnums.IOFileMode_ReadMode):
        np.testing.assert_allclose(by_itk(labels), by_itk(scan), atol=2e-3)
    else:  # ITK opens no NIfTI-2 of the other byte order, so it has no word on where that lies
        assert nib.load(scan).header["sizeof_hdr"] == 540


def write(path: Path, hu: NDArray[Any], header: Any, rng: np.random.Generator) -> None:
    header.set_data_dtype(rng.choice(["i2", "i4", "f4", "f8"]))
    header.set_slope_inter(float(rng.choice([1.0, 0.5, 2.0])), float(rng.choice([0.0, -1024.0])))
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    nib.save(kind(hu, None, header), path)


def test_five_hundred_headers_end_on_the_anatomy_or_in_a_refusal_that_names_the_file(tmp_path: Path) -> None:
    rng, ends = np.random.default_rng(17), Counter[str]()
    for number in range(500):
        shape = tuple(int(n) for n in rng.integers(8, 13, 3))
        hu, path = blob(shape), tmp_path / f"scan{number}.nii"
        kind: Any = rng.choice([nib.Nifti1Header, nib.Nifti1Header, nib.Nifti2Header])
        header = kind(endianness=str(rng.choice(["<", ">"])))
        header.set_data_shape((*shape, *[1] * int(rng.integers(0, 2))))
        sform = affine_of(rng)
        sform_code, qform_code = (int(code) for code in rng.integers(0, 5, 2))
        qform = {0: sform, 1: sform, 2: affine_of(rng)}[int(rng.integers(0, 3))]
        header.set_qform(qform, qform_code)
        header.set_sform(sform, sform_code)
        if qform_code == 0 and rng.random() < 0.5:  # stale: no rotation, no flip, rounded sizes
            header["pixdim"][:4] = [1.0, *(SPACING + 0.004)]
            for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
                header[field] = 0
        unit = int(rng.choice([0, 2, 2, 2, 1, 3]))
        header["xyzt_units"] = unit
        scale = {0: 1.0, 1: 1e-3, 2: 1.0, 3: 1e3}[unit]
        for field in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z"):
            header[field] = header[field] * scale
        header["pixdim"][1:4] *= scale
        write(path, hu.reshape(header.get_data_shape()), header, rng)
        try:
            labels = segment(path)
        except ValueError as refusal:
            assert str(path) in str(refusal) and "disagree" in str(refusal)
            assert sform_code and qform_code and not np.allclose(sform, qform)
            ends["refused"] += 1
            continue
        assert_on_anatomy(path, labels, hu)
        ends["labelled"] += 1
        path.unlink()
    assert ends["refused"] > 50 and ends["labelled"] > 250


@pytest.mark.parametrize(("sform_code", "qform_code"), list(product((0, 1, 2, 4), (0, 1, 2))))
def test_every_pair_of_codes_keeps_scan_and_labels_together(sform_code: int, qform_code: int, tmp_path: Path) -> None:
    rng, hu = np.random.default_rng(3), blob((10, 9, 8))
    header: Any = nib.Nifti1Header()
    header.set_data_shape(hu.shape)
    sform = affine_of(rng)
    other = sform if sform_code and qform_code else affine_of(rng)
    header.set_sform(sform, sform_code)
    header.set_qform(other, qform_code)
    path = tmp_path / "scan.nii.gz"
    write(path, hu, header, rng)
    labels = segment(path)
    assert_on_anatomy(path, labels, hu)
    stored = nib.load(labels).header
    assert (stored["sform_code"], stored["qform_code"]) == (sform_code, qform_code)


@pytest.mark.parametrize("off", [0.0, 0.02, 0.6, 4.0])  # mm, of the corner that is farthest away
@pytest.mark.parametrize("degrees", [0, 177, 179.97, 180])
def test_forms_that_both_count_and_differ_are_named_or_refused(degrees: float, off: float, tmp_path: Path) -> None:
    hu, affine = blob((60, 50, 40)), np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [0.01, 0.02, degrees], degrees=True).as_matrix() @ np.diag(SPACING)
    affine[:3, 3] = -110.0
    stale = affine.copy()
    stale[:3, 3] += [off, 0, 0]
    header: Any = nib.Nifti1Header()
    header.set_data_shape(hu.shape)
    header.set_sform(affine, 1)
    header.set_qform(stale, 1)
    path = tmp_path / "scan.nii"
    write(path, hu, header, np.random.default_rng(0))
    if off > 1:
        with pytest.raises(ValueError, match=r"scan\.nii: sform and qform that disagree"):
            load_volume(path)
        return
    scan = load_volume(path)
    np.testing.assert_allclose(np.asarray(scan.affine), affine, atol=1e-4)
    assert ("the sform is taken" in scan.meta[WARNINGS]) == (off > 0)


@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
def test_formats_of_itk_keep_scan_and_labels_together(ending: str, tmp_path: Path) -> None:
    hu, affine = blob((10, 9, 8)), LPS @ affine_of(np.random.default_rng(5))
    image: Any = itk.image_from_array(np.ascontiguousarray(hu.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(itk.matrix_from_array(affine[:3, :3] / spacing))
    image.SetOrigin(affine[:3, 3].tolist())
    path = tmp_path / f"scan.{ending}"
    itk.imwrite(image, str(path))
    assert_on_anatomy(path, segment(path), hu)


def test_a_shear_is_refused_by_name(tmp_path: Path) -> None:
    hu, shear = blob((10, 9, 8)), np.eye(4)
    shear[0, 1] = 0.2
    path = tmp_path / "sheared.nii"
    nib.save(nib.Nifti1Image(hu, shear @ np.diag([2.0, 2.0, 2.0, 1.0])), path)
    with pytest.raises(ValueError, match=r"sheared.nii: axes that are not at right angles"):
        segment(path)
