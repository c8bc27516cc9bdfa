"""The real MONAI Label server: needs the environment that `python -m scripts.monai_label.environment` makes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from config_compositions import ROOT
from copied_bundle import write_tiny_bundle
from monai.utils import set_determinism
from tiny_workflows import TINY_TRAINING, TRAIN, run

from development.monai_label.archive import free_port, orthanc_and_plugin
from development.monai_label.check import Check
from development.monai_label.screen import Screen
from development.monai_label.viewer import browser_and_driver
from development.phantom.dataset import write_phantom_dataset
from development.release.__main__ import main as release
from scripts.monai_label.environment import FOLDER, monai_of

ENVIRONMENT = Path(os.environ.get("AGSCL_MONAI_LABEL", FOLDER))
# Enough training for organs to be found; what they are worth does not matter here.
SETTINGS: dict[str, Any] = {
    **TINY_TRAINING,
    "coarse::stage::folds": 1,
    "coarse::stage::epochs": 20,
    "train::epochs": 1,
    "query_planner::threshold": 0.3,
}


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not monai_of(ENVIRONMENT), reason="run `python -m scripts.monai_label.environment` first"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_phantom_dataset(str(tmp_path / "data"), 2, 1, 1, in_plane_spacing=(9, 10), slice_spacing=(10, 12))
    return tmp_path / "data"


@pytest.fixture
def bundle(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A workflow changes these for the whole process.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    run("training", TRAIN, output_dir=str(tmp_path / "run"), dataset_dir=str(data), **SETTINGS)
    set_determinism(seed=None)
    settings = {key: value for key, value in SETTINGS.items() if key != "device"}
    return write_tiny_bundle(tmp_path / "bundle", tmp_path / "run/model.pt", settings)


def test_the_server_infers_and_fine_tunes_as_the_bundle_does(bundle: Path, data: Path, tmp_path: Path) -> None:
    check = Check(bundle, data, tmp_path / "workspace", environment=ENVIRONMENT, port=free_port())
    check.run()
    assert [claim for claim, holds in check.findings.items() if not holds] == []
    assert (tmp_path / "workspace/label.png").exists(), "no organ was found: the comparison says nothing"


def test_the_bundle_that_was_made_of_a_run_is_served_too(tmp_path: Path) -> None:
    about = {"name": "Synthetic abdomen", "version": "1.0.0", "authors": "A. Person", "description": "Thirteen organs."}
    about |= {"data_source": "Synthetic.", "licence": str(ROOT / "LICENSE"), "output_dir": str(tmp_path)}
    about["run_dir"] = str(ROOT / "development/synthetic_abdomen")
    assert release(["from_run", *(word for name, value in about.items() for word in (f"--{name}", value))]) == 0
    write_phantom_dataset(str(tmp_path / "data"), 2, 1, 1)
    made, workspace = tmp_path / "synthetic_abdomen", tmp_path / "workspace"
    check = Check(made, tmp_path / "data", workspace, environment=ENVIRONMENT, port=free_port())
    check.run()
    assert [claim for claim, holds in check.findings.items() if not holds] == []


@pytest.mark.skipif(not orthanc_and_plugin(), reason="orthanc and orthanc-dicomweb (Debian) are not installed")
@pytest.mark.skipif(not browser_and_driver(), reason="chromium and chromium-driver (Debian) are not installed")
def test_at_the_viewer_a_study_is_segmented_corrected_stored_and_trained_on(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    image = sorted((data / "images").iterdir())[-1]
    screen = Screen(bundle, image, tmp_path / "workspace", environment=ENVIRONMENT)
    screen.run()
    assert [claim for claim, holds in screen.findings.items() if not holds] == []
    assert len(screen.findings) == 9, "the session ended early"
    pictures = {path.name for path in (tmp_path / "workspace/pictures").iterdir()}
    assert pictures == {"opened.png", "monai_label.png", "corrected.png", "fine_tuning.png"}
