"""The predictor as TorchScript and by TensorRT: the same labels, and what MONAI Deploy reads in the file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import deploy_operator
import nibabel as nib
import numpy as np
import pytest
import torch
from config_compositions import INFERENCE, ROOT, load
from doc_pages import blocks
from monai.bundle import ckpt_export
from monai.data import load_net_with_metadata
from tiny_bundle import METADATA, TinyBundle
from torch import Tensor

from scripts.export.torchscript import export_torchscript, read_metadata, trained_predictor
from scripts.inference.predictor import TwoStagePredictor
from scripts.inference.weights import load_weights
from scripts.runtime.composition import composed

LOAD_ALONE = """
import importlib.util, sys, torch
assert importlib.util.find_spec("scripts") is None, "the bundle must be out of reach"
network = torch.jit.load(sys.argv[1])
assert not network.training
with torch.no_grad():
    torch.save(network(torch.load(sys.argv[2], weights_only=True)), sys.argv[3])
"""


@pytest.fixture(scope="module")
def by_monai(tiny_bundle: TinyBundle) -> Path:
    """MONAI's own command, with the defaults that a bundle folder gives it."""
    ckpt_export(
        config_file=str(tiny_bundle.config),
        meta_file=str(METADATA),
        bundle_root=str(tiny_bundle.root),
    )
    return Path(tiny_bundle.root / "models/model.ts")


@pytest.fixture(scope="module")
def by_us(tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours, which lays config files on one another first."""
    path = tmp_path_factory.mktemp("export") / "made/organs.ts"
    export_torchscript(str(path), str(ROOT / INFERENCE), str(METADATA), **tiny_bundle.settings)
    return path


@pytest.mark.parametrize("which", ["by_monai", "by_us"])
def test_a_process_that_has_no_scripts_gets_the_same_labels(
    which: str, tiny_bundle: TinyBundle, volume: Tensor, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    torch.save(volume, tmp_path / "volume.pt")
    command = [str(request.getfixturevalue(which)), str(tmp_path / "volume.pt"), str(tmp_path / "scores.pt")]
    subprocess.run([sys.executable, "-I", "-c", LOAD_ALONE, *command], cwd=tmp_path, check=True)
    scores = torch.load(tmp_path / "scores.pt", weights_only=True)
    with torch.no_grad():
        expected = tiny_bundle.predictor(volume)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert torch.equal(scores.argmax(dim=1), expected.argmax(dim=1))
    assert len(torch.unique(expected.argmax(dim=1))) > 3, "labels of one organ would show little"


@pytest.mark.parametrize("which", ["by_monai", "by_us"])
def test_the_file_holds_metadata_and_a_config_that_stands_alone(which: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    _, metadata, extra = load_net_with_metadata(str(path), more_extra_files=["inference.json"])
    written = json.loads(METADATA.read_text(encoding="utf-8"))
    assert {key: metadata[key] for key in written} == written
    config = json.loads(extra["inference.json"])
    assert config["spacing"] == [12.0, 12.0, 24.0] and config["organs"] == load(INFERENCE)["organs"]
    assert {"preprocessing", "postprocessing", "inferer", "device"} <= config.keys()


@pytest.mark.parametrize("which", ["by_monai", "by_us"])
def test_monai_deploys_operator_gets_the_labels_of_a_scan(
    which: str, tiny_bundle: TinyBundle, phantom_dir: Path, request: pytest.FixtureRequest
) -> None:
    scan = nib.load(sorted((phantom_dir / "images").glob("*.nii.gz"))[0])
    voxels = np.asarray(scan.dataobj).astype(np.int16)
    labels = deploy_operator.segment(request.getfixturevalue(which), voxels, scan.affine)
    assert labels.shape == voxels.shape
    np.testing.assert_array_equal(labels, expected_labels(tiny_bundle, Path(scan.get_filename())))
    assert len(np.unique(labels)) > 3


def test_the_example_of_the_page_segments_a_scan_with_monai_alone(
    by_us: Path, tiny_bundle: TinyBundle, phantom_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = blocks(ROOT / "docs/how_to/export.md", "python")
    scan = sorted((phantom_dir / "images").glob("*.nii.gz"))[0]
    shutil.copy(scan, tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(block.replace("model.ts", str(by_us)), {})
    (written,) = (tmp_path / "out").iterdir()
    labels, expected = np.asarray(nib.load(written).dataobj), expected_labels(tiny_bundle, scan, one_piece=[])
    assert labels.dtype == np.uint8 and labels.shape == expected.shape
    np.testing.assert_allclose(nib.load(written).affine, nib.load(scan).affine, atol=1e-4)
    assert float((labels == expected).mean()) > 0.6, "the page interpolates labels, the bundle scores"


def expected_labels(tiny_bundle: TinyBundle, path: Path, **settings: Any) -> Any:
    """Labels of the bundle's own pre- and postprocessing and network."""
    parser = deploy_operator.ConfigParser()
    parser.read_config(str(tiny_bundle.config))
    parser.update(settings)
    before = parser.get_parsed_content("preprocessing")
    after = deploy_operator.without_files(parser.get_parsed_content("postprocessing"))
    item = before({"image": str(path), "case": "x"})
    with torch.no_grad():
        scores = tiny_bundle.predictor(item["image"].as_tensor()[None])
    return after({**item, "pred": scores[0]})["pred"].numpy()[0]


def test_metadata_of_other_organs_is_refused(tmp_path: Path) -> None:
    organs = load(INFERENCE)["organs"]
    assert read_metadata(METADATA, organs)["version"]
    with pytest.raises(ValueError, match=r"the network \['background', 'spleen', 'liver'\]: give a copy"):
        read_metadata(METADATA, ["spleen", "liver"])


def test_weights_that_do_not_fit_leave_nothing_behind(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    settings = {**tiny_bundle.settings, "encoder::name": "resnet34"}
    with pytest.raises(ValueError, match="are of another network"):
        export_torchscript(str(tmp_path / "made/model.ts"), str(ROOT / INFERENCE), str(METADATA), **settings)
    assert not (tmp_path / "made").exists()


def test_a_mistyped_option_exports_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--rundir is no id of the config files, did you mean --run_dir"):
        export_torchscript(str(tmp_path / "model.ts"), str(ROOT / INFERENCE), str(METADATA), rundir="runs/mine")


def test_a_baseline_is_refused_by_name(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    files = [str(ROOT / INFERENCE)]
    settings = {**tiny_bundle.settings, "network_def": {"_target_": "torch.nn.Identity"}}
    with pytest.raises(ValueError, match="network_def is a Identity, .* leave baselines out"):
        export_torchscript(str(tmp_path / "model.ts"), files, str(METADATA), **settings)


@pytest.mark.parametrize(
    "changes", [{"predictor": {"_target_": "torch.nn.Identity"}}, {"model_path": ["a.pt", "b.pt"]}]
)
def test_what_predicts_with_a_part_of_its_network_or_with_several_is_refused(
    changes: dict[str, Any], tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    settings = {**tiny_bundle.settings, **changes, "method": "other"}
    with pytest.raises(ValueError, match="other predicts with a part of its network, or several: export another run"):
        export_torchscript(str(tmp_path / "model.ts"), str(ROOT / INFERENCE), str(METADATA), **settings)


def test_only_the_wanted_organs_are_queried(tiny_bundle: TinyBundle) -> None:
    settings = {**tiny_bundle.settings, "wanted_organs": ["mandible"]}
    assert trained_predictor(composed(str(ROOT / INFERENCE), **settings)).wanted == [4]


FILES = [str(ROOT / INFERENCE), str(ROOT / "configs/variants/tensorrt.yaml")]
HAS_TENSORRT = torch.cuda.is_available() and find_spec("tensorrt") is not None and find_spec("polygraphy") is not None


def compiled(bundle: TinyBundle, **overrides: str) -> TwoStagePredictor:
    """The network as the overlay makes it, with weights loaded afterwards as the workflow does."""
    network = composed(FILES, **{**bundle.settings, **overrides}).get_parsed_content("network")
    assert isinstance(network, TwoStagePredictor)
    load_weights(network, bundle.model)
    return network.eval()


@pytest.mark.skipif(HAS_TENSORRT, reason="TensorRT is there")
def test_without_tensorrt_the_network_is_the_plain_one(tiny_bundle: TinyBundle, volume: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(compiled(tiny_bundle)(volume), tiny_bundle.predictor(volume))
    assert not list(tiny_bundle.model.parent.glob("*.plan"))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_TENSORRT, reason="needs a GPU, tensorrt and polygraphy")
def test_with_tensorrt_the_labels_are_those_of_pytorch(tiny_bundle: TinyBundle, volume: Tensor, tmp_path: Path) -> None:
    network = compiled(tiny_bundle, device="cuda", model_path=str(tmp_path / "model.pt"))
    with torch.no_grad():
        labels, expected = network(volume.cuda()).argmax(dim=1).cpu(), tiny_bundle.predictor(volume).argmax(dim=1)
    assert list(tmp_path.glob("*.plan"))
    assert float((labels == expected).float().mean()) > 0.99
