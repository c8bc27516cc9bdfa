"""The call in Python gives what the command writes; strange names give the command's result too, or one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from config_compositions import ROOT
from ct_series import phantom_scan, write_ct_series
from monai.data import MetaTensor
from tiny_weights import SETTINGS, write_trained

from development.phantom.anatomy import make_phantom_case
from scripts.runtime.composition import composed
from scripts.runtime.run_folder import claim
from scripts.segment.__main__ import main
from scripts.segment.segmenter import Segmenter

ORGANS = ["aorta", "liver"]
Weights = tuple[str, list[str]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Tiny weights, and the files of their config."""
    return write_trained(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def segmenter(weights: Weights) -> Segmenter:
    return Segmenter(*weights, organs=ORGANS, device="cpu")


@pytest.fixture
def scan(phantom_dir: Path) -> Path:
    return sorted((phantom_dir / "images").iterdir())[0]


def array(image: Any) -> Any:
    return np.asarray(image.dataobj)


def test_labels_and_statistics_are_those_that_the_command_writes(
    segmenter: Segmenter, weights: Weights, phantom_dir: Path, scan: Path, tmp_path: Path
) -> None:
    write_ct_series(tmp_path / "series", *phantom_scan(phantom_dir))
    for path in (scan, tmp_path / "series"):
        options = ["--output_dir", str(tmp_path / "out"), "--device", "cpu", "--write", "report", "--organs", *ORGANS]
        assert main([str(path), *options, "--model_path", weights[0], "--run_dir", *weights[1]]) == 0
        labels, statistics = segmenter(path)
        name = path.name.removesuffix(".nii.gz")
        written: Any = nib.load(tmp_path / "out" / f"{name}_seg.nii.gz")
        np.testing.assert_array_equal(array(labels), array(written))
        np.testing.assert_allclose(labels.affine, written.affine, atol=1e-4)
        assert labels.get_data_dtype() == np.uint8 and set(np.unique(array(labels))) == {0, 2, 3}
        table = pd.read_csv(tmp_path / "out" / f"{name}_organs.csv")
        assert list(statistics) == table["organ"].tolist() == ["liver", "aorta"]
        for row in table.itertuples():
            found = statistics[row.organ]
            assert (found.class_index, found.cut_off) == (row.class_index, row.cut_off)
            assert found.volume_ml == pytest.approx(row.volume_ml, abs=1e-3) and found.volume_ml > 0
            assert found.mean_hu == pytest.approx(row.mean_hu, abs=1e-2)


def test_an_image_in_memory_gives_the_labels_of_its_file(segmenter: Segmenter, scan: Path) -> None:
    image: Any = nib.load(scan)
    expected, statistics = segmenter(str(scan))
    voxels, affine = torch.from_numpy(image.get_fdata(dtype=np.float32)), torch.from_numpy(image.affine)
    made: Any = nib.Nifti1Image(voxels.numpy(), image.affine)
    flipped: Any = nib.Nifti1Image(np.ascontiguousarray(voxels.numpy()[::-1])[::-1], image.affine)
    moved: Any = nib.Nifti1Image(voxels.numpy(), np.eye(4))
    moved.affine[:] = image.affine  # nibabel notes it in the header when it saves
    tensors = MetaTensor(voxels, affine=affine), MetaTensor(voxels[None], affine=affine)
    for given in (image, made, flipped, moved, *tensors):
        stored = given if isinstance(given, MetaTensor) else given.dataobj
        before = np.array(stored)
        labels, found = segmenter(given)
        np.testing.assert_array_equal(array(labels), array(expected))
        np.testing.assert_allclose(labels.affine, image.affine, atol=1e-4)
        assert found == statistics
        np.testing.assert_array_equal(before, stored)


def test_a_run_and_all_of_its_organs_are_what_it_takes_too(weights: Weights, scan: Path, tmp_path: Path) -> None:
    claim(tmp_path / "run", composed(weights[1]).config, {})
    shutil.copy(weights[0], tmp_path / "run/model.pt")
    labels, statistics = Segmenter(run_dir=tmp_path / "run", device=torch.device("cpu"))(scan)
    assert list(statistics) == SETTINGS["organs"]
    assert {found.class_index for found in statistics.values() if found.volume_ml} == {*np.unique(array(labels))} - {0}
    alone = Segmenter(tmp_path / "run/model.pt", tmp_path / "run", "liver", "cpu")
    assert list(alone(scan)[1]) == ["liver"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("nowhere.nii", "input 'nowhere.nii' does not exist; expected a volume"),
        ("{folder}", "{folder} holds 2 scans, and a call segments one: give {folder}/"),
        ("{folder}/broken.nii.gz", "{folder}/broken.nii.gz"),
        (np.zeros((4, 4, 4)), r"a scan is a ndarray: give a path, a nibabel.Nifti1Image \(of an array: "),
        (MetaTensor(torch.zeros(2, 8, 8, 8)), r"MetaTensor of shape \[2, 8, 8, 8\]: expected \[x, y, z\] or"),
        (nib.Nifti1Image(np.zeros((8, 8, 8, 2)), np.eye(4)), "the image: .*expected three axes of one channel"),
        (nib.Nifti1Image(np.zeros((40, 40, 40)), np.eye(4)), "the image: .*normalised, or empty"),
    ],
)
def test_what_is_not_one_ct_is_refused_with_a_sentence(
    given: Any, sentence: str, segmenter: Segmenter, scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "good.nii.gz").write_bytes(scan.read_bytes())
    (tmp_path / "broken.nii.gz").write_bytes(scan.read_bytes()[:1000])
    given = given.format(folder=tmp_path) if isinstance(given, str) else given
    with pytest.raises((ValueError, FileNotFoundError), match=sentence.format(folder=tmp_path)):
        segmenter(given)


def test_unknown_organs_weights_and_devices_are_refused_when_it_is_made(weights: Weights) -> None:
    for changes, sentence in (
        ({"organs": ["livr"]}, "'livr' is no organ of this network, give 'liver'"),
        ({"model_path": "none.pt"}, "no weights at none.pt"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            Segmenter(**{"model_path": weights[0], "run_dir": weights[1], **changes})


# Names that shells, configs, consoles or pictures could take for something else.
STRANGE_ORGANS = ["größe", "肝臓", "x$_{$"]
NAMES = ["Müller", "肝臓 1", "$HOME", "a$x_{$", "%PATH%y", "@a#b::c", "-x", os.fsdecode(b"not_utf8\xff"), "x" * 230]


@pytest.fixture(scope="module")
def small_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan, with weights and their config beside it."""
    folder = tmp_path_factory.mktemp("names")
    case = make_phantom_case(0, 0, (14.0, 14.0), (18.0, 18.0))
    nib.save(nib.Nifti1Image(case.image, case.affine), folder / "scan.nii.gz")
    write_trained(folder, organs=STRANGE_ORGANS)
    return folder / "scan.nii.gz"


def weights_beside(small_scan: Path) -> list[str]:
    folder = small_scan.parent
    configs = [str(ROOT / "configs/train.yaml"), str(folder / "tiny.yaml")]
    return ["--model_path", str(folder / "model.pt"), "--run_dir", *configs, "--device", "cpu"]


def segment(small_scan: Path, *options: Any, console: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """The command in a console of a code page."""
    command = [sys.executable, "-m", "scripts.segment", *options, *weights_beside(small_scan)]
    environment = {**os.environ, "PYTHONIOENCODING": console, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([os.fspath(word) for word in command], cwd=ROOT, env=environment, capture_output=True)


def errors(done: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    assert b"Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(b"error: ")]


@pytest.mark.slow
def test_strange_names_of_scans_and_organs_give_results_also_in_a_console_of_ascii(
    small_scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "scans").mkdir()
    try:
        for name in NAMES:
            shutil.copy(small_scan, tmp_path / "scans" / f"{name}.nii.gz")
    except OSError:
        pytest.skip("this file system does not take such names")
    done = segment(small_scan, tmp_path / "scans", "--output_dir", tmp_path / "out $1", console="ascii")
    assert (done.returncode, errors(done)) == (0, []), done.stderr
    for name in NAMES:
        labels: Any = nib.load(tmp_path / "out $1" / f"{name}_seg.nii.gz")
        assert len(np.unique(labels.dataobj)) > 1
        for ending in ("_overlay.png", "_report.html", "_organs.csv"):
            assert (tmp_path / "out $1" / f"{name}{ending}").stat().st_size > 0
    listed = json.loads((tmp_path / "out $1/manifest.json").read_text(encoding="utf-8"))
    assert sorted(listed["cases"]) == sorted(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("console", ["cp1252", "ascii", "utf-16"])
def test_a_console_of_another_code_page_shows_every_complaint(console: str, small_scan: Path, tmp_path: Path) -> None:
    done = segment(small_scan, tmp_path / "肝臓ü\udcff.nii.gz", "--output_dir", tmp_path / "out", console=console)
    said = done.stderr.decode(console)
    assert done.returncode == 1 and "error: input '" in said and "does not exist" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_names_that_no_result_can_have_end_in_one_sentence(
    small_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, name, said in (
        ("long", "x" * 245, "rename the scan"),
        ("outside", "../outside", "expected the name of a file without folders"),
    ):
        (tmp_path / folder).mkdir()
        shutil.copy(small_scan, tmp_path / folder / "scan.nii.gz")
        entry = {"image": "scan.nii.gz", "case": name}
        (tmp_path / folder / "dataset.json").write_text(json.dumps({"test": [entry]}))
        options = ["--output_dir", str(tmp_path / "out/deep"), *weights_beside(small_scan)]
        assert main([str(tmp_path / folder), *options]) == 1
        shown = capsys.readouterr().err
        (line,) = (line for line in shown.splitlines() if line.startswith("error: "))
        assert said in line and "Traceback" not in shown
        assert not (tmp_path / "out").exists()
