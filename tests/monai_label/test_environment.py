from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.monai_label.environment import (
    HOOK,
    STAMP,
    VIEWER_MODE,
    add_viewer_mode,
    make,
    monai_of,
    require,
    wanted,
)

# A torch that knows no operator, and a torchvision that asks for two while it is imported.
FAKE_TORCH = """
declared = []
class Library:
    def __init__(self, name, kind): assert (name, kind) == ("torchvision", "FRAGMENT")
    def define(self, schema): declared.append(schema)
class library: Library = Library
class ops:
    class torchvision: pass
"""


def test_an_environment_counts_when_it_was_finished_for_these_requirements(tmp_path: Path) -> None:
    assert monai_of(tmp_path) == ""
    (tmp_path / STAMP).write_text(json.dumps(wanted("1.5.2")))
    assert monai_of(tmp_path) == "1.5.2"
    assert require(tmp_path).parent.parent == tmp_path
    (tmp_path / STAMP).write_text(json.dumps({**wanted("1.5.2"), "requirements": "older"}))
    assert monai_of(tmp_path) == ""


def test_without_an_environment_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="python -m scripts.monai_label.environment"):
        require(tmp_path)


def test_a_finished_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text(json.dumps(wanted("1.6.1")))
    make("1.6.1", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STAMP]


def test_a_python_that_monai_label_does_not_run_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(ValueError, match="this is Python 3.13, MONAI Label runs on 3.10 to 3.12"):
        make("1.6.1", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_hook_declares_the_operators_when_torchvision_asks_for_them_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text(HOOK)
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text("import torch\nassert not torch.declared\n")
    (tmp_path / "torchvision/_meta_registrations.py").write_text("import torch\nprint(torch.declared)\n")
    code = "import hook, sys; assert 'torch' not in sys.modules; import torchvision._meta_registrations"
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert finished.returncode == 0, finished.stderr
    assert [schema.split("(")[0] for schema in eval(finished.stdout)] == ["nms", "qnms"]


def test_the_viewer_gets_its_mode_once_and_a_newer_one_in_its_place(tmp_path: Path) -> None:
    (config := tmp_path / "app-config.js").write_text("window.config = { modes: [] };\n")
    add_viewer_mode(config)
    once = config.read_text()
    config.write_text(once + "// of an earlier version\n")
    add_viewer_mode(config)
    assert config.read_text() == once == "window.config = { modes: [] };\n" + VIEWER_MODE.read_text()
