"""What is no readable volume ends as one sentence with the file and a remedy, not as a message of a library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from tiny_dataset import AFFINE, ct_voxels, rewrite_header, save, truncate

from scripts.dataset.problems import Kind
from scripts.dataset.volume_file import read_volume_file
from scripts.preprocessing.scan_reader import WARNINGS, check_scan, load_volume
from scripts.preprocessing.working_grid import ToWorkingGrid


def scan(folder: Path, voxels: Any = None, affine: Any = AFFINE) -> Path:
    return Path(save(folder / "scan.nii.gz", ct_voxels() if voxels is None else voxels, affine))


def write_cifti(path: Path) -> None:
    axes = nib.cifti2.ScalarAxis(["a"]), nib.cifti2.BrainModelAxis.from_surface(np.arange(4), 9, "CortexLeft")
    nib.save(nib.Cifti2Image(np.zeros((1, 4), np.float32), axes), path)


def write_itk(path: Path, lost: str = "", cut: int = 0) -> None:
    itk.imwrite(itk.image_from_array(np.ascontiguousarray(ct_voxels().T)), str(path))
    if lost:
        path.with_suffix(lost).unlink()
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
FILES: dict[str, tuple[Any, str]] = {
    "phases.nii.gz": (lambda path: save(path, ct_voxels(shape=(6, 5, 4, 2))), "save a single 3D greyscale volume"),
    "flat.nii": (lambda path: save(path, ct_voxels(shape=(6, 5))), "save a single 3D"),
    "rgb.nii": (lambda path: save(path, np.zeros((6, 5, 4), RGB)), "RGB"),
    "complex.nii": (lambda path: save(path, np.zeros((6, 5, 4), np.complex64)), "complex"),
    "surface.dscalar.nii": (write_cifti, "CIFTI"),
    "cut.nii.gz": (lambda path: (save(path, ct_voxels(shape=(40, 30, 9))), truncate(path)), "copy or export it again"),
    "lfs.nii.gz": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "lfs.nrrd": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "page.nii.gz": (lambda path: path.write_text("<html>404</html>"), "copy or export it again"),
    "empty.mha": (lambda path: path.touch(), "it is empty"),
    "named.nii.gz": (lambda path: path.write_bytes(Path(save(path.with_name("x.nii"), ct_voxels())).read_bytes()), ""),
    "lost.mhd": (lambda path: write_itk(path, lost=".raw"), "copy that file beside the header"),
    "short.nrrd": (lambda path: write_itk(path, cut=90), "copy or export it again"),
    "short.mha": (lambda path: write_itk(path, cut=90), "copy or export it again"),
    "slice.dcm": (lambda path: path.write_bytes(b"\0" * 128 + b"DICM"), "of DICOM give the folder"),
    "gone.nii.gz": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("name", FILES)
def test_one_sentence_names_the_file_and_the_remedy(name: str, tmp_path: Path) -> None:
    make, remedy = FILES[name]
    make(tmp_path / name)
    with pytest.raises(ValueError, match=".") as caught:
        load_volume(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_sform_of_zeros_is_named(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "zeros.nii", ct_voxels()))
    content = bytearray(path.read_bytes())
    content[252:256], content[280:328] = b"\1\0\1\0", bytes(48)  # both codes are 1, the sform's rows are 0
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the sform is not valid, an axis has no length"):
        load_volume(path)


def test_a_fourth_axis_of_one_does_no_harm(tmp_path: Path) -> None:
    assert load_volume(scan(tmp_path, ct_voxels()[..., None])).shape == (1, 6, 5, 4)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3), (0, 1.0), (2, 1.0)])
def test_units_are_converted_and_named(unit: int, factor: float, tmp_path: Path) -> None:
    path = scan(tmp_path, affine=np.diag([factor, factor, factor, 1.0]) @ AFFINE)
    rewrite_header(path, xyzt_units=(unit,))
    volume = load_volume(path)
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6)
    assert ("converted to mm" in check_scan(volume).meta[WARNINGS]) == (unit in (1, 3))


def test_the_sform_counts_where_the_qform_has_code_0(tmp_path: Path) -> None:
    path = scan(tmp_path)
    rewrite_header(path, pixdim=(1.0, 2.01, 2.0, 3.0), quatern_c=(1.0,), qoffset_x=(70.0,))
    volume = read_volume_file(str(path))
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.taken_from == "sform (code 2)"


@pytest.mark.parametrize(
    ("name", "line", "other"),
    [
        ("a.nrrd", b"space: left-posterior-superior", b"space: 3D-left-handed"),
        ("a.mha", b"ElementSpacing = 1 1 1\n", b""),
    ],
)
def test_axes_without_a_patient_and_voxels_without_a_size_are_warned_about(
    name: str, line: bytes, other: bytes, tmp_path: Path
) -> None:
    write_itk(path := tmp_path / name)
    assert not read_volume_file(str(path)).warnings
    assert line in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(line, other))
    (warning,) = read_volume_file(str(path)).warnings
    assert warning.kind is Kind.NO_ORIENTATION and "no voxel size or directions" in str(warning)


def hu_scan(voxels: Any, spacing: float = 2.0) -> MetaTensor:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return MetaTensor(torch.as_tensor(np.asarray(voxels, np.float32))[None], affine=affine)


def body(shape: tuple[int, int, int] = (20, 20, 10)) -> Any:
    hu = np.random.default_rng(0).normal(-1000, 10, shape)
    hu[4:16, 4:16] = np.random.default_rng(1).normal(0, 60, (12, 12, shape[2]))
    return hu.clip(-1024)


@pytest.mark.parametrize(
    ("voxels", "found"),
    [
        ((body() + 1024) / 2048, "normalised"),
        ((body() - 500) / 400, "normalised"),
        ((body() / 4 + 256).clip(0, 255), "8 bit"),
        (np.where(body() > 200, np.nan, body()), "NaN or infinite"),
    ],
)
def test_what_is_no_ct_in_hu_is_refused_without_a_file_too(voxels: Any, found: str) -> None:
    with pytest.raises(ValueError, match=f"the scan: .*{found}"):
        check_scan(hu_scan(voxels))


@pytest.mark.parametrize("padding", [0, -2000])
def test_hu_and_1024_is_named(padding: float) -> None:
    voxels = body() + 1024
    voxels[0] = padding
    assert "HU + 1024" in check_scan(hu_scan(voxels)).meta[WARNINGS]
    assert check_scan(hu_scan(body())).meta[WARNINGS] == ""


@pytest.mark.parametrize("spacing", [40.0, 2e3, 0.002, 19.0])
def test_impossible_sizes_are_refused(spacing: float) -> None:
    voxels = np.broadcast_to(body(), (8, 20, 20, 10)).reshape(160, 20, 10)
    with pytest.raises(ValueError, match="impossible spacing"):
        check_scan(hu_scan(voxels, spacing))


def test_a_working_grid_beyond_the_bound_is_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(ValueError, match="voxels on the working grid"):
        ToWorkingGrid([1.0, 1.0, 1.0])(hu_scan(body(), 1e6))
