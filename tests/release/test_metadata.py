"""Metadata is text: nothing in it is evaluated, and names and versions are such that clients cut them rightly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import ROOT
from tiny_checkout import write_json

from development.release.metadata import bundle_name, read_metadata, refuse_expressions, versioned_name
from development.release.model_card import front_matter, licence_text, model_card


def test_the_metadata_of_this_bundle_is_read() -> None:
    metadata = read_metadata(ROOT)
    assert versioned_name(metadata) == f"{bundle_name(metadata)}_v{metadata['version']}"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"description": "$__import__('os').getcwd()"}, "description"),
        ({"a": {"b": ["text", "@network_def"]}}, "a.b.1"),
        ({"changelog": {"0.1.0": "%other.json::key"}}, "changelog.0.1.0"),
    ],
)
def test_what_monai_evaluates_is_refused_by_its_place(content: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=f"{place} begins with .* which MONAI evaluates"):
        refuse_expressions(content)


def test_a_component_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x\._target_ would build an object \('os.getcwd'\)"):
        refuse_expressions({"x": {"_target_": "os.getcwd"}})


@pytest.mark.parametrize(("size", "accepted"), [("*", True), ("32 * n", True), ("2**p", True), ("exit()", False)])
def test_a_size_is_a_number_or_a_pattern_of_n_and_p(size: str, accepted: bool) -> None:
    metadata = {"network_data_format": {"inputs": {"image": {"spatial_shape": [96, size]}}}}
    if accepted:
        refuse_expressions(metadata)
    else:
        with pytest.raises(ValueError, match=r"spatial_shape\.1 is 'exit\(\)'"):
            refuse_expressions(metadata)


def test_signs_within_a_text_are_text() -> None:
    refuse_expressions({"authors": "someone@example.org", "task": "100 % of $ 5", "empty": ""})


@pytest.mark.parametrize(
    ("name", "folder"), [("AGSCL CT segmentation", "agscl_ct_segmentation"), ("Organs 3D", "organs_3d")]
)
def test_the_folder_is_called_after_the_name(name: str, folder: str) -> None:
    assert bundle_name({"name": name}) == folder


@pytest.mark.parametrize("name", ["agscl vessels", "agscl v2", "agscl.ct", "a/b", "", "3d", "two  spaces", None])
def test_a_name_that_clients_would_cut_is_refused(name: str | None) -> None:
    with pytest.raises(ValueError, match="expected letters, digits and spaces"):
        bundle_name({"name": name} if name is not None else {})


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0rc1", ""])
def test_a_version_is_three_numbers(version: str) -> None:
    with pytest.raises(ValueError, match="expected three numbers"):
        versioned_name({"name": "a", "version": version})


def test_a_folder_that_is_no_bundle_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--bundle_root"):
        read_metadata(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/metadata.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        read_metadata(tmp_path)
    write_json(tmp_path / "configs/metadata.json", [])
    with pytest.raises(ValueError, match="holds a list, expected an object"):
        read_metadata(tmp_path)


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return read_metadata(ROOT)


def test_every_statement_of_the_metadata_is_in_the_card(metadata: dict[str, Any]) -> None:
    card = model_card(metadata)
    fields = ("name", "task", "version", "description", "authors", "copyright", "intended_use", "data_source")
    for text in [*(metadata[field] for field in fields), *metadata["references"], *metadata["changelog"].values()]:
        assert text in card
    for organ in metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values():
        assert re.search(rf"^\| \d+ +\| +{organ} \|$", card, re.M)
    for package, version in metadata["required_packages_version"].items():
        assert re.search(rf"^\| {package} +\| +{re.escape(version)} \|$", card, re.M)


def test_the_newest_version_comes_first_and_scores_are_listed(metadata: dict[str, Any]) -> None:
    card = model_card(metadata | {"changelog": {"0.1.0": "old", "0.2.0": "new"}, "eval_metrics": {"mean_dice": 0.8}})
    assert card.index("- 0.2.0: new\n") < card.index("- 0.1.0: old\n")
    assert re.search(r"^\| mean_dice +\| +0\.8 \|$", card, re.M)


def test_the_commands_of_the_card_name_this_bundle_and_a_config_that_exists(metadata: dict[str, Any]) -> None:
    card = model_card(metadata)
    assert f'load("{bundle_name(metadata)}"' in card
    assert all((ROOT / name).is_file() for name in re.findall(r"--config_file (\S+)", card))


def test_a_bundle_without_scores_has_a_card_without_them(metadata: dict[str, Any]) -> None:
    assert "## Scores" in model_card(metadata) and "## Scores" not in model_card({**metadata, "eval_metrics": {}})


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [("Apache License\nVersion 2.0", "apache-2.0"), ("MIT License", "mit"), ("All rights reserved", "other")],
)
def test_the_head_is_yaml_with_the_licence(metadata: dict[str, Any], licence: str, identifier: str) -> None:
    head = front_matter(metadata, licence)
    assert head.startswith("---\n") and head.endswith("\n---\n")
    content = yaml.safe_load(head.strip("-\n"))
    assert content["license"] == identifier
    assert content["library_name"] == "monai" and "segmentation" in content["tags"]


def test_a_bundle_without_a_licence_is_refused(tmp_path: Path) -> None:
    assert "Apache License" in licence_text(ROOT)
    with pytest.raises(FileNotFoundError, match="no LICENSE"):
        licence_text(tmp_path)
