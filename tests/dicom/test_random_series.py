"""Series made at random: voxels lie where the standard puts them with the right HU, or the refusal names the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest
from ct_series import slice_dataset
from monai.data import MetaTensor
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import FileMetaDataset

from scripts.dataset.volume_file import read_volume_file
from scripts.dicom.series_folder import series_folder
from scripts.outputs.scan_outputs import SaveImageLabelsd
from scripts.preprocessing.scan_reader import load_volume

SYNTAXES = [
    *(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    *(uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless),
]
FAULTS = ("empty", "cut", "garbage", "comma", "nan", "missing", "place twice", "turned", "other rows")
SERIES, BATCH = 200, 25


@dataclass
class Made:
    """A series on disk.

    Attributes:
        affine: voxel index [column, row, slice] to mm (RAS).
        hu: what its voxels mean.
        files: path of each slice.
    """

    affine: NDArray[np.float64]
    hu: NDArray[np.float64]
    files: list[Path]


def random_affine(rng: np.random.Generator) -> NDArray[np.float64]:
    """Axes in any order and direction, one time in three oblique, spacing 0.5 to 6 mm."""
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    if rng.random() < 0.33:
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = axes * rng.uniform(0.5, 6.0, 3).round(3)
    affine[:3, 3] = rng.uniform(-300, 300, 3).round(2)
    return affine


def write_random_series(folder: Path, rng: np.random.Generator) -> Made:
    folder.mkdir()
    shape = tuple(rng.integers((8, 8, 4), (20, 20, 8)))
    affine, syntax = random_affine(rng), SYNTAXES[rng.integers(len(SYNTAXES))]
    bits, varies, bare = int(rng.choice([12, 16])), rng.random() < 0.4, rng.random() < 0.4
    signed, slope = int(rng.integers(2)), float(rng.choice([1.0, 2.0, 0.5, 0.37, 1.25]))
    made = Made(affine, np.zeros(shape), [])
    names = rng.permutation(shape[2] * 3)
    for k in range(shape[2]):
        one = slice_dataset(np.zeros(shape[:2], np.int16), affine, k, "1.2.3.4")
        if varies:
            signed, slope = int(rng.integers(2)), float(rng.choice([1.0, 0.5, 0.37, 3.0]))
        intercept = float(rng.choice([0.0, -1024.0, -1000.5])) if varies else -1024.0
        low = -(2 ** (bits - 1)) if signed else 0
        stored = rng.integers(low, low + 2**bits, shape[:2])
        made.hu[:, :, k] = stored * slope + intercept
        one.BitsStored, one.HighBit, one.PixelRepresentation = bits, bits - 1, signed
        one.RescaleSlope, one.RescaleIntercept = slope, intercept
        one.PhotometricInterpretation = "MONOCHROME1" if rng.random() < 0.1 else "MONOCHROME2"
        one.PixelData = stored.T.astype("i2" if signed else "u2").tobytes()
        one["PixelData"].VR = "OW"
        made.files.append(folder / f"IM{names[k]:04d}")
        save(one, made.files[-1], syntax, bare and not syntax.is_compressed)
    return made


def save(one: pydicom.Dataset, path: Path, syntax: uid.UID, bare: bool) -> None:
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    if syntax.is_encapsulated:
        one.compress(syntax, generate_instance_uid=False)
    elif not syntax.is_little_endian:
        one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
    one.file_meta.TransferSyntaxUID = syntax
    if bare:
        del one.file_meta
        encoding = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        pydicom.dcmwrite(path, one, **encoding, enforce_file_format=False)
    else:
        one.save_as(path, enforce_file_format=True)


def damage(made: Made, fault: str, rng: np.random.Generator) -> list[Path]:
    """Do the damage to a slice that is not the first or last; return the files of which the refusal has to name one."""
    k = int(rng.integers(1, len(made.files) - 1))
    path = made.files[k]
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
        return [made.files[k - 1], made.files[k + 1]]
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "cut":
        path.write_bytes(content[: int(rng.integers(1, len(content) - 10))])
    elif fault == "garbage":
        path.write_bytes(rng.bytes(len(content)))
    else:
        edit(path, fault, made)
    return made.files if fault in ("turned", "other rows") else [path]


def edit(path: Path, fault: str, made: Made) -> None:
    with pydicom.config.disable_value_validation():
        one = pydicom.dcmread(path, force=True)
        tags: dict[str, Any] = {
            "comma": {"RescaleSlope": "1,5"},
            "nan": {"RescaleIntercept": "nan"},
            "place twice": {"ImagePositionPatient": pydicom.dcmread(made.files[0], force=True).ImagePositionPatient},
            "turned": {"ImageOrientationPatient": [0.6, 0.8, 0, -0.8, 0.6, 0]},
            "other rows": {"Rows": one.Rows - 1},
        }[fault]
        for tag, value in tags.items():
            element = one[tag]
            one.add(pydicom.DataElement(element.tag, "LO" if isinstance(value, str) else element.VR, value))
        one.save_as(path)


@pytest.mark.parametrize("batch", range(SERIES // BATCH))
def test_a_whole_series_is_read_with_the_right_hu_at_the_right_place(batch: int, tmp_path: Path) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        made = write_random_series(tmp_path / str(seed), np.random.default_rng(seed))
        before = {path: path.read_bytes() for path in made.files}
        volume = read_volume_file(str(tmp_path / str(seed)))
        index = np.stack(np.meshgrid(*map(np.arange, made.hu.shape), indexing="ij"), axis=-1)
        to_read = np.linalg.inv(volume.affine) @ made.affine
        found = index @ to_read[:3, :3].T + to_read[:3, 3]
        np.testing.assert_allclose(found, found.round(), atol=0.02, err_msg=f"seed {seed}")
        voxels = volume.voxels[tuple(np.moveaxis(found.round().astype(int), -1, 0))]
        np.testing.assert_allclose(voxels, made.hu, atol=0.003, err_msg=f"seed {seed}")
        assert {path: path.read_bytes() for path in made.files} == before


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_a_label_map_lies_where_itk_puts_the_series(seed: int, tmp_path: Path) -> None:
    made = write_random_series(tmp_path / "ct", np.random.default_rng(seed))
    folder = str(series_folder(str(tmp_path / "ct")))
    scan = load_volume(folder)
    labels = MetaTensor((scan > np.median(made.hu)).float(), affine=scan.affine)
    SaveImageLabelsd("pred", str(tmp_path))({"image": scan, "pred": labels, "case": "ct"})
    finder = itk.GDCMSeriesFileNames.New()
    finder.SetDirectory(folder)
    reader = itk.ImageSeriesReader[itk.Image[itk.D, 3]].New(FileNames=finder.GetFileNames(finder.GetSeriesUIDs()[0]))
    reader.Update()
    series, written = reader.GetOutput(), itk.imread(str(tmp_path / "ct_seg.nii.gz"))
    hu, found = itk.array_view_from_image(series), itk.array_view_from_image(written)
    assert sorted(hu.shape) == sorted(found.shape) == sorted(made.hu.shape)
    for place in np.ndindex(*hu.shape):
        point = series.TransformIndexToPhysicalPoint([int(n) for n in place[::-1]])
        inside = written.TransformPhysicalPointToIndex(point)
        assert found[inside[2], inside[1], inside[0]] == (hu[place] > np.median(made.hu)), place
        centre = written.TransformIndexToPhysicalPoint(inside)
        np.testing.assert_allclose(centre, point, atol=0.02)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_series_is_refused_with_the_name_of_the_file(fault: str, tmp_path: Path) -> None:
    for seed in range(1000, 1010):
        rng = np.random.default_rng(seed)
        made = write_random_series(tmp_path / str(seed), rng)
        named = damage(made, fault, rng)
        with pytest.raises(ValueError) as refusal:
            series_folder(str(tmp_path / str(seed)))
        assert fault == "place twice" or any(path.name in str(refusal.value) for path in named), refusal.value
