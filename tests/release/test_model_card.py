"""The model card says what the metadata says, and a hub can read its head."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import ROOT

from development.release.metadata import bundle_name, read_metadata
from development.release.model_card import front_matter, licence_text, model_card


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return read_metadata(ROOT)


def test_every_statement_of_the_metadata_is_in_the_card(metadata: dict[str, Any]) -> None:
    card = model_card(metadata)
    fields = ("name", "task", "version", "description", "authors", "copyright", "intended_use", "data_source")
    for text in [*(metadata[field] for field in fields), *metadata["references"], *metadata["changelog"].values()]:
        assert text in card
    for organ in metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values():
        assert re.search(rf"^\| \d+ \| {organ} \|$", card, re.M)
    for package, version in metadata["required_packages_version"].items():
        assert f"| {package} | {version} |" in card


def test_the_newest_version_comes_first_and_scores_are_listed(metadata: dict[str, Any]) -> None:
    card = model_card(metadata | {"changelog": {"0.1.0": "old", "0.2.0": "new"}, "eval_metrics": {"mean_dice": 0.8}})
    assert card.index("| 0.2.0 | new |") < card.index("| 0.1.0 | old |")
    assert "| mean_dice | 0.8 |" in card


def test_the_commands_of_the_card_name_this_bundle_and_a_config_that_exists(metadata: dict[str, Any]) -> None:
    card = model_card(metadata)
    assert f'load("{bundle_name(metadata)}"' in card
    assert all((ROOT / name).is_file() for name in re.findall(r"--config_file (\S+)", card))


def test_pages_that_the_card_names_exist(metadata: dict[str, Any]) -> None:
    pages = re.findall(r"`(docs/[^`]+)`", model_card(metadata))
    assert pages and all((ROOT / page).is_file() for page in pages)


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
