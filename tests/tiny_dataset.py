"""A dataset of a few voxels, sound unless a test breaks it; what a broken one's report shows; scans of one's own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.dataset.check import check_dataset
from scripts.dataset.problems import DatasetError, Kind

ORGANS = ["spleen", "liver"]
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
Case = dict[str, Any]


def ct_voxels(seed: int = 0, shape: tuple[int, ...] = (6, 5, 4)) -> NDArray[np.int16]:
    """Air, soft tissue and bone at random, in HU."""
    voxels = np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)
    voxels.flat[0] = -1000
    return voxels


def label_voxels(shape: tuple[int, ...] = (6, 5, 4)) -> NDArray[np.uint8]:
    """A voxel of the spleen (value 1) and two of the liver (value 2)."""
    voxels = np.zeros(shape, np.uint8)
    voxels.flat[1:4] = (1, 2, 2)
    return voxels


def save(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> str:
    """Write a NIfTI file and return its path."""
    image_class: Any = nib.Nifti1Image
    nib.save(image_class(voxels, affine), path)
    return str(path)


def write_case(folder: Path, name: str, seed: int = 0, **changes: Any) -> Case:
    """Write a sound case; ``image`` and ``label`` in ``changes`` replace its voxels, other keys its entries."""
    image, label = changes.pop("image", ct_voxels(seed)), changes.pop("label", label_voxels())
    case = {
        "case": name,
        "image": save(folder / f"{name}.nii.gz", image),
        "label": save(folder / f"{name}_label.nii.gz", label),
        "annotated": list(ORGANS),
        "phase": None,
        "label_values": {"spleen": 1, "liver": 2},
        "known_values": [0, 1, 2, 7],
    }
    return {**case, **changes}


def refusal(*training: Case, **settings: Any) -> DatasetError:
    """Check a training split that must be refused."""
    with pytest.raises(DatasetError) as caught:
        check_dataset({"training": training}, ORGANS, progress=False, **settings)
    return caught.value


def assert_only_problem(error: DatasetError, kind: Kind, where: str, found: str) -> None:
    """The report has one problem, and shows its file, what was found and the remedy."""
    assert [problem.kind for problem in error.problems] == [kind]
    assert f"  - {where}: " in str(error) or f"  - {where}" in str(error).splitlines()
    assert found in str(error)
    assert f"To fix: {kind.remedy}." in str(error)


def truncate(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite_header(path: Path, **fields: tuple[float, ...]) -> None:
    """Change header fields in the bytes of a .nii.gz: nibabel itself refuses to write impossible ones."""
    content = gzip.decompress(path.read_bytes())
    header_class: Any = nib.Nifti1Header
    header = header_class(content[:348], check=False)
    for name, values in fields.items():
        field = header.structarr[name]
        field[...] = np.resize(values, field.shape) if name != "pixdim" else [*values, *field[4:]]
    path.write_bytes(gzip.compress(header.binaryblock + content[348:]))


def write_scan(folder: Path, name: str, seed: int, labelled: bool = True, **label: Any) -> None:
    """Write ``scans/<name>.nii.gz`` and, if labelled, ``labels/<name>.nii.gz`` (spleen 1, liver 2)."""
    for place in ("scans", "labels"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    save(folder / "scans" / f"{name}.nii.gz", ct_voxels(seed))
    if labelled:
        save(folder / "labels" / f"{name}.nii.gz", label.get("voxels", label_voxels()))


def write_series(folder: Path, seed: int, patient: str = "", series: str = "1.2.3.4", slices: int = 4) -> None:
    """Write one DICOM series of axial slices, without file extension as scanners export them."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = ct_voxels(seed, (8, 8, slices))
    tags = {"0020|000d": "1.2.3", "0020|000e": series, "0008|0060": "CT", "0010|0020": patient}
    for k in range(slices):
        image = itk.image_from_array(np.ascontiguousarray(voxels[:, :, k].T[None]))
        image.SetOrigin([0.0, 0.0, 3.0 * k])
        own = {"0008|0018": f"{series}.{k + 1}", "0020|0032": f"0\\0\\{3 * k}", "0020|0013": str(k + 1)}
        for tag, value in {**tags, **own}.items():
            image.GetMetaDataDictionary()[tag] = value
        encoder = itk.GDCMImageIO.New()
        encoder.SetKeepOriginalUID(True)
        itk.imwrite(image, str(folder / f"{series}_{k}.dcm"), imageio=encoder)
        (folder / f"{series}_{k}.dcm").rename(folder / f"{series}_{k}")
