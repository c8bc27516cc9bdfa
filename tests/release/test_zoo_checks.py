"""The zoo's checks: each refuses what it is there for. That this repository passes: test_shipped_bundle.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkout import git, read_json, write_json

from development.release import file_checks, network_checks
from development.release.__main__ import main
from development.release.bundle_files import bundle_files
from development.release.file_checks import OWN_SCHEMA, check_files, check_large_files, check_schema, check_sizes
from development.release.network_checks import check_channels, check_properties, check_torchscript, check_weights
from development.release.zoo_checks import CHECKS

TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors",
         "copyright")  # fmt: skip
OF_A_TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range")


def change_metadata(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "configs/metadata.json"
    content = read_json(path)
    change(content)
    write_json(path, content)


def replace_weights(root: Path, state: dict[str, Any]) -> None:
    (root / "models/model.pt").unlink()  # a link to the weights of all tests
    torch.save(state, root / "models/model.pt")


def test_the_check_command_says_what_passed_and_what_failed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "LICENSE").unlink()
    change_metadata(bundle, lambda content: content.pop("numpy_version"))
    replace_weights(bundle, {"weight": torch.zeros(3)})
    assert main(["check", "--bundle_root", str(bundle)]) == 1
    said = capsys.readouterr().out
    assert "FAILED  files: no LICENSE" in said
    assert "FAILED  metadata schema: 'numpy_version' is a required property" in said
    assert "FAILED  weights fit:" in said and "FAILED  TorchScript:" in said
    assert "ok      version and changelog: agscl_ct_segmentation_v" in said
    assert f"of {len(CHECKS)} checks passed" in said


@pytest.mark.parametrize("name", ["configs/inference.json", "configs/train.json", "configs/metadata.json"])
def test_a_missing_file_is_refused(name: str, bundle: Path) -> None:
    (bundle / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name}"):
        check_files(bundle)


def test_missing_weights_that_have_an_address_are_to_be_downloaded(bundle: Path) -> None:
    (bundle / "models/model.pt").unlink()
    with pytest.raises(FileNotFoundError, match="no models/model.pt: train"):
        check_files(bundle)
    entry = {"path": "models/model.pt", "url": "https://example.org/model.pt", "hash_val": "0" * 64}
    (bundle / "large_files.yml").write_text(json.dumps({"large_files": [entry]}), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="no models/model.pt: download it"):
        check_files(bundle)
    replace_weights_with = bundle / "models/model.pt"
    replace_weights_with.write_bytes(b"other")
    with pytest.raises(ValueError, match="its sha256 differs"):
        check_large_files(bundle)


@pytest.mark.parametrize("field", [*TEXTS, "required_packages_version", "network_data_format"])
def test_the_schema_requires_what_the_published_one_does(field: str, bundle: Path) -> None:
    change_metadata(bundle, lambda content: content.pop(field))
    with pytest.raises(ValueError, match=f"'{field}' is a required property|must provide the `{field}` field"):
        check_schema(bundle)


@pytest.mark.parametrize("field", OF_A_TENSOR)
def test_the_schema_requires_every_field_of_a_tensor(field: str, bundle: Path) -> None:
    change_metadata(bundle, lambda content: content["network_data_format"]["outputs"]["pred"].pop(field))
    with pytest.raises(ValueError, match=f"'{field}' is a required property"):
        check_schema(bundle)


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [("version", 1, "string"), ("changelog", [], "object"), ("references", "x", "array"), ("task", None, "string")],
)
def test_the_schema_refuses_another_kind_of_value(field: str, value: Any, kind: str, bundle: Path) -> None:
    change_metadata(bundle, lambda content: content.update({field: value}))
    with pytest.raises(ValueError, match=f"is not of type '{kind}'"):
        check_schema(bundle)


def test_the_published_schema_is_used_where_it_is_at_hand(bundle: Path) -> None:
    assert check_schema(bundle) == "restated schema"
    (bundle / "eval").mkdir()
    write_json(bundle / "eval/schema.json", read_json(OWN_SCHEMA) | {"required": ["something new"]})
    with pytest.raises(ValueError, match="'something new' is a required property"):
        check_schema(bundle)


def test_without_the_schema_package_the_check_says_where_to_get_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="jsonschema is missing: pip install -r requirements-dev.txt"):
        check_schema(bundle)


def test_a_version_without_a_changelog_entry_is_refused(bundle: Path) -> None:
    change_metadata(bundle, lambda content: content.update(version="9.9.9"))
    with pytest.raises(ValueError, match="the changelog has no entry for version 9.9.9"):
        CHECKS["version and changelog"](bundle)


def test_swapped_channel_names_are_refused(bundle: Path) -> None:
    def swap(content: dict[str, Any]) -> None:
        names = content["network_data_format"]["outputs"]["pred"]["channel_def"]
        names["1"], names["2"] = names["2"], names["1"]

    change_metadata(bundle, swap)
    with pytest.raises(ValueError, match="the output channels are"):
        check_channels(bundle)


def test_a_large_committed_file_is_refused_unless_it_was_decided(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "models/model.pt has" in check_sizes(bundle)
    (bundle / "docs/large.png").write_bytes(bytes(26 * 2**20))
    git(bundle, "add", "docs/large.png")
    with pytest.raises(ValueError, match=r"over 25 MiB: \{'docs/large.png': 26\}"):
        check_sizes(bundle)
    monkeypatch.setattr(file_checks, "DECIDED", {"models/model.pt": "why", "docs/large.png": "a reason"})
    assert "docs/large.png has 26 MiB: a reason" in check_sizes(bundle)


def test_configs_out_of_step_are_refused(bundle: Path) -> None:
    path = bundle / "configs/inference.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("threshold: 0.05", "threshold: 0.06"), encoding="utf-8")
    with pytest.raises(ValueError, match="inference.json.* out of step: run python -m development.standalone"):
        CHECKS["one-file configs"](bundle)


def test_a_pickle_in_the_bundle_is_refused(bundle: Path) -> None:
    (bundle / "scripts/cache.pkl").write_bytes(b"x")
    git(bundle, "add", "--force", "scripts/cache.pkl")
    assert "scripts/cache.pkl" in bundle_files(bundle)
    with pytest.raises(ValueError, match="scripts/cache.pkl is a pickle"):
        CHECKS["no pickles"](bundle)


def test_weights_of_another_network_or_that_are_no_numbers_are_refused(bundle: Path) -> None:
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    name = next(name for name, value in state.items() if value.is_floating_point())
    replace_weights(bundle, {**state, name: torch.full_like(state[name], torch.nan)})
    with pytest.raises(ValueError, match=f"not finite in 1 tensors .*{name}"):
        check_weights(bundle)
    state.pop(name)
    replace_weights(bundle, state)
    with pytest.raises(ValueError, match="1 tensors are missing"):
        check_weights(bundle)


def test_a_property_that_is_not_referred_to_by_its_id_is_refused(bundle: Path) -> None:
    config = read_json(bundle / "configs/train.json")
    config["train"]["trainer"]["train_handlers"] = "@validate::handlers"
    config["output_folder"] = config.pop("output_dir")
    text = json.dumps(config).replace("@output_dir", "@output_folder")
    (bundle / "configs/train.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="missing, or not referred to by their id: train train_handlers, output_dir"):
        check_properties(bundle)


def test_metadata_of_another_network_is_refused(bundle: Path) -> None:
    change_metadata(bundle, lambda content: content["network_data_format"]["outputs"]["pred"].update(num_channels=3))
    with pytest.raises(ValueError, match="doesn't match: `3`"):
        CHECKS["network in and out"](bundle)


def test_a_torchscript_that_answers_differently_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = network_checks._network

    def without_segmenter(root: Path) -> torch.nn.Module:
        network = load(root)
        for parameter in network.get_submodule("segmenter").parameters():
            torch.nn.init.zeros_(parameter)
        return network

    config = read_json(bundle / "configs/inference.json")
    config["query_planner"]["threshold"] = 0.9999  # no query of the noise
    write_json(bundle / "configs/inference.json", config)
    monkeypatch.setattr(network_checks, "_network", without_segmenter)
    with pytest.raises(ValueError, match="scores of TorchScript and Python differ by"):
        check_torchscript(bundle)
