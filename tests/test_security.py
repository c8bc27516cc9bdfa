"""What a stranger's file may not do: run code, or write outside of its folder. By the source, and with real clients."""

from __future__ import annotations

import ast
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from config_compositions import ROOT
from local_server import serving
from monai.bundle import ConfigWorkflow, download, load
from tiny_checkout import read_json, write_json
from tiny_weights import Touch

from development.release.metadata import read_metadata

SOURCES = sorted([*(ROOT / "scripts").rglob("*.py"), *(ROOT / "development").rglob("*.py")])
CODE_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
EVALUATING = {"eval", "exec", "compile", "__import__"}


def settings(call: ast.Call) -> dict[str | None, Any]:
    """Keyword arguments that are constants."""
    return {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}


def faults(source: str) -> Iterator[str]:
    """Ways of reading or starting something that can run a stranger's code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"import {name}" for name in names if name.split(".")[0] in CODE_MODULES)
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), settings(node)
        if called == "torch.load" and given.get("weights_only") is not True:
            yield "torch.load without weights_only=True"
        if called in EVALUATING:
            yield called
        if given.get("allow_pickle") is True:
            yield "allow_pickle=True"
        fixed = bool(node.args) and isinstance(node.args[0], ast.Constant)
        if (given.get("shell") is True or called == "os.system") and not fixed:
            yield "a shell"
        if called in ("yaml.load", "yaml.load_all", "yaml.unsafe_load"):
            yield called


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_opens_a_file_in_a_way_that_runs_what_is_in_it(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("from pickle import load", "import pickle"),
        ("np.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("eval(text)", "eval"),
        ("subprocess.run(text, shell=True)", "a shell"),
        ("yaml.load(text)", "yaml.load"),
    ],
)
def test_what_counts_as_such_a_way(source: str, fault: str) -> None:
    assert list(faults(source)) == [fault]


def test_a_command_that_stands_in_the_source_may_use_a_shell() -> None:
    assert list(faults("subprocess.run('nvidia-smi -L', shell=True)")) == []


@pytest.mark.parametrize("name", ["../climbed.txt", "agscl/../../climbed.txt", "{folder}/climbed.txt"])
def test_monai_unpacks_no_member_that_climbs_out_of_the_folder(name: str, tmp_path: Path) -> None:
    served, bundles = tmp_path / "served", tmp_path / "bundles"
    served.mkdir()
    with zipfile.ZipFile(served / "agscl.zip", "w") as archive:
        archive.writestr("agscl/LICENSE", "licence")
        archive.writestr(name.format(folder=tmp_path), "out")
    with serving(served) as address, pytest.raises(ValueError, match="Unsafe path"):
        download(name="agscl", url=f"{address}/agscl.zip", bundle_dir=str(bundles), progress=False)
    assert not list(tmp_path.rglob("climbed.txt"))


def test_monai_makes_no_link_out_of_a_member_that_is_one(tmp_path: Path) -> None:
    served, bundles = tmp_path / "served", tmp_path / "bundles"
    served.mkdir()
    with zipfile.ZipFile(served / "agscl.zip", "w") as archive:
        info = zipfile.ZipInfo("agscl/models")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, str(tmp_path))
    with serving(served) as address:
        download(name="agscl", url=f"{address}/agscl.zip", bundle_dir=str(bundles), progress=False)
    assert not (bundles / "agscl/models").is_symlink()


def test_no_client_evaluates_what_the_metadata_says(tmp_path: Path) -> None:
    """An expression in a text of the metadata stays text; the checks of a release refuse it all the same."""
    ran, bundle = tmp_path / "ran", tmp_path / "agscl"
    expression = f"$__import__('pathlib').Path({str(ran)!r}).touch()"
    for name in ("configs", "models"):
        (bundle / name).mkdir(parents=True)
    metadata = read_json(ROOT / "configs/metadata.json")
    write_json(bundle / "configs/metadata.json", metadata | {"description": expression, "changelog": {"1": expression}})
    config = {"network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1}, "run": ["$1 + 1"]}
    write_json(bundle / "configs/inference.json", config)
    torch.save(torch.nn.Linear(2, 1).state_dict(), bundle / "models/model.pt")
    assert isinstance(load("agscl", bundle_dir=str(tmp_path), workflow_type="inference"), torch.nn.Linear)
    workflow = ConfigWorkflow(str(bundle / "configs/inference.json"), workflow_type=None, logging_file=False)
    workflow.initialize()
    assert workflow.run() == [2]
    assert not ran.exists()
    with pytest.raises(ValueError, match="begins with .* which MONAI evaluates"):
        read_metadata(bundle)


def test_monai_loads_no_weights_that_hold_code(tmp_path: Path) -> None:
    (tmp_path / "agscl/models").mkdir(parents=True)
    torch.save({"weight": Touch(tmp_path / "ran")}, tmp_path / "agscl/models/model.pt")
    with pytest.raises(Exception, match="[Ww]eights.?only"):
        load("agscl", bundle_dir=str(tmp_path), workflow_type="inference", model=torch.nn.Linear(2, 1))
    assert not (tmp_path / "ran").exists()
