from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from config_compositions import INFERENCE, ROOT, load
from monai.bundle import verify_net_in_out

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
