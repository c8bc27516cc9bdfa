"""The real MONAI Label server: needs the environment that `python -m scripts.monai_label.environment` makes."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from config_compositions import ROOT
from copied_bundle import write_tiny_bundle
from monai.utils import set_determinism
from tiny_workflows import TINY_TRAINING, TRAIN, run

from development.monai_label.check import Check
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


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
