"""Names that shells, configs, consoles or pictures could take for something else: a right result, or one sentence."""

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
import pytest
import yaml
from config_compositions import ROOT
from tiny_weights import SETTINGS, write_weights

from development.phantom.anatomy import make_phantom_case

pytestmark = pytest.mark.slow

ORGANS = ["größe", "肝臓", "x$_{$"]
NAMES = ["Müller", "肝臓 1", "$HOME", "a$x_{$", "%PATH%y", "@a#b::c", "-x", os.fsdecode(b"not_utf8\xff"), "x" * 230]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan, with weights and their config beside it."""
    folder = tmp_path_factory.mktemp("names")
    case = make_phantom_case(0, 0, (14.0, 14.0), (18.0, 18.0))
    nib.save(nib.Nifti1Image(case.image, case.affine), folder / "scan.nii.gz")
    content = {name: value for name, value in SETTINGS.items() if name != "device"} | {"organs": ORGANS}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    write_weights(folder / "model.pt", organs=ORGANS)
    return folder / "scan.nii.gz"


def segment(scan: Path, *options: Any, console: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """The command in a console of a code page."""
    weights = ["--model_path", scan.parent / "model.pt", "--config", scan.parent / "tiny.yaml", "--device", "cpu"]
    command = [sys.executable, "-m", "scripts.segment", *options, *weights]
    environment = {**os.environ, "PYTHONIOENCODING": console, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([os.fspath(word) for word in command], cwd=ROOT, env=environment, capture_output=True)


def errors(done: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    assert b"Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(b"error: ")]


def test_strange_names_of_scans_and_organs_give_results_also_in_a_console_of_ascii(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    try:
        for name in NAMES:
            shutil.copy(scan, tmp_path / "scans" / f"{name}.nii.gz")
    except OSError:
        pytest.skip("this file system does not take such names")
    done = segment(scan, tmp_path / "scans", "--output_dir", tmp_path / "out $1", console="ascii")
    assert (done.returncode, errors(done)) == (0, []), done.stderr
    for name in NAMES:
        labels: Any = nib.load(tmp_path / "out $1" / f"{name}_seg.nii.gz")
        assert len(np.unique(labels.dataobj)) > 1
        for ending in ("_overlay.png", "_report.html", "_organs.csv"):
            assert (tmp_path / "out $1" / f"{name}{ending}").stat().st_size > 0
    listed = json.loads((tmp_path / "out $1/manifest.json").read_text(encoding="utf-8"))
    assert sorted(listed["cases"]) == sorted(NAMES)


@pytest.mark.parametrize("console", ["cp1252", "ascii", "utf-16"])
def test_a_console_of_another_code_page_shows_every_complaint(console: str, scan: Path, tmp_path: Path) -> None:
    done = segment(scan, tmp_path / "肝臓ü\udcff.nii.gz", "--output_dir", tmp_path / "out", console=console)
    said = done.stderr.decode(console)
    assert done.returncode == 1 and "error: input '" in said and "does not exist" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_names_that_no_result_can_have_end_in_one_sentence(scan: Path, tmp_path: Path) -> None:
    for folder, name, said in (
        ("long", "x" * 245, b"rename the scan"),
        ("outside", "../outside", b"expected the name of a file without folders"),
    ):
        (tmp_path / folder).mkdir()
        shutil.copy(scan, tmp_path / folder / "scan.nii.gz")
        entry = {"image": "scan.nii.gz", "case": name}
        (tmp_path / folder / "dataset.json").write_text(json.dumps({"test": [entry]}))
        done = segment(scan, tmp_path / folder, "--output_dir", tmp_path / "out/deep")
        assert done.returncode == 1 and len(errors(done)) == 1 and said in errors(done)[0]
        assert not (tmp_path / "out").exists()
