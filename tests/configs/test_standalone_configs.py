"""The JSON twins of the configs are in step, and the metadata fits them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import INFERENCE, ROOT, composed, load
from monai.bundle import ConfigParser, verify_net_in_out

from development import standalone_configs
from development.standalone_configs import CONFIGS, TWINS, main, out_of_step, write_copies
from scripts.runtime.composition import PREDICTOR


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the YAML configs to change."""
    shutil.copytree(CONFIGS, tmp_path / "configs")
    return tmp_path / "configs"


def test_the_twins_of_this_repository_are_in_step_with_the_yaml() -> None:
    assert out_of_step() == []
    assert main(["--check"]) == 0


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_is_the_composition_of_its_yaml_files(twin: str) -> None:
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / twin))
    parser.parse()
    content = {key: value for key, value in parser.config.items() if key != "note"}
    assert content == composed((f"configs/{TWINS[twin]}",)).config


def test_a_change_of_the_predictor_puts_every_copy_out_of_step_until_they_are_written(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_copies(copied)
    assert write_copies(copied) == []
    source = copied / "train.yaml"
    source.write_text(source.read_text(encoding="utf-8").replace("threshold: 0.3", "threshold: 0.4"), encoding="utf-8")
    assert out_of_step(copied) == ["inference.yaml", "evaluate.yaml", *TWINS]
    write_copies(copied)
    planner = json.loads((copied / "evaluate.json").read_text(encoding="utf-8"))["query_planner"]
    assert planner["threshold"] == 0.4


def test_a_block_that_was_edited_in_a_copy_is_found(copied: Path) -> None:
    copy = copied / "baselines/mednext.yaml"
    copy.write_text(copy.read_text(encoding="utf-8").replace("batch_size: 64", "batch_size: 32"), encoding="utf-8")
    assert out_of_step(copied) == ["baselines/mednext.yaml"]


def test_the_block_of_the_predictor_has_the_ids_that_are_taken_over_from_a_run() -> None:
    text = (CONFIGS / "train.yaml").read_text(encoding="utf-8")
    block = text.split("# >>> predictor")[1].partition("\n")[2].split("# <<< predictor")[0]
    assert sorted(yaml.safe_load(block)) == sorted(PREDICTOR)


def test_a_missing_twin_is_written_and_named(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standalone_configs, "out_of_step", lambda folder=copied: ["train.json"])
    assert main(["--check"]) == 1
    assert "out of step: train.json" in capsys.readouterr().out


def test_writing_twice_gives_the_same_bytes(copied: Path) -> None:
    write_copies(copied)
    first = {twin: (copied / twin).read_bytes() for twin in TWINS}
    for twin in TWINS:
        (copied / twin).unlink()
    assert write_copies(copied) == list(TWINS)
    assert first == {twin: (copied / twin).read_bytes() for twin in TWINS}


def test_one_json_file_is_enough_for_a_network_in_a_folder_without_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = shutil.copy(CONFIGS / "inference.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser()
    parser.read_config(alone)
    parser["encoder::name"] = "resnet18"
    assert type(parser.get_parsed_content("network_def")).__name__ == "TwoStagePredictor"
    assert str(ROOT) not in (tmp_path / "inference.json").read_text(encoding="utf-8")
    assert (ROOT / INFERENCE).is_file()


METADATA = ROOT / "configs/metadata.json"
REQUIRED = [  # by the model zoo's schema of 2024-07-25
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
]
REQUIRED_OF_A_TENSOR = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"]


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(METADATA.read_text(encoding="utf-8"))
    return content


def pinned_versions() -> dict[str, str]:
    """The pins for the newest Python, which come first where there are two."""
    pins: dict[str, str] = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, equals, version = line.split("#")[0].split(";")[0].strip().partition("==")
        if equals:
            pins.setdefault(name, version)
    return pins


def test_every_field_that_the_schema_requires_is_there(metadata: dict[str, Any]) -> None:
    assert [field for field in REQUIRED if field not in metadata] == []
    tensors = metadata["network_data_format"]
    for tensor in [*tensors["inputs"].values(), *tensors["outputs"].values()]:
        assert [field for field in REQUIRED_OF_A_TENSOR if field not in tensor] == []


def test_the_changelog_has_the_version(metadata: dict[str, Any]) -> None:
    assert metadata["changelog"][metadata["version"]]


def test_the_output_channels_are_background_and_the_organs_of_the_config(metadata: dict[str, Any]) -> None:
    names = ["background", *load(INFERENCE)["organs"]]
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {str(channel): name for channel, name in enumerate(names)}
    assert output["num_channels"] == len(names)


def test_the_versions_are_those_that_are_installed_for_users(metadata: dict[str, Any]) -> None:
    pins = pinned_versions()
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }
    assert named == {name: pins[name] for name in named}


def test_the_network_takes_and_gives_the_tensors_that_the_metadata_describes() -> None:
    verify_net_in_out(net_id="network_def", meta_file=str(METADATA), config_file=str(ROOT / INFERENCE), device="cpu")


def test_a_wrong_number_of_channels_in_the_metadata_would_be_noticed() -> None:
    override = {"_meta_::network_data_format::outputs::pred::num_channels": 2, "encoder::name": "resnet18"}
    with pytest.raises(ValueError, match="output channel number `8`"):
        verify_net_in_out(
            net_id="network_def", meta_file=str(METADATA), config_file=str(ROOT / INFERENCE), device="cpu", **override
        )


def test_metadata_names_no_local_path() -> None:
    assert str(Path.home()) not in METADATA.read_text(encoding="utf-8")
