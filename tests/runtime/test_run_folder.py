from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from config_compositions import TRUNK, composed

from scripts.runtime.run_folder import claim_run_folder, flat_settings

SETTINGS: dict[str, Any] = {"organs": ["liver"], "spacing": (2.0, 2.0, 3.0), "train": {"epochs": 3}}


class Blur:
    """Keeps one of its arguments, and what is no argument."""

    def __init__(self, width: float, secret: int = 0, network: torch.nn.Module | None = None) -> None:
        self.width, self.network, self.cache = width, network, [1, 2]


def test_a_new_folder_is_made_and_may_be_claimed_again_with_the_same_settings(tmp_path: Path) -> None:
    folder = claim_run_folder(str(tmp_path / "runs/mine"), SETTINGS)
    written = (folder / "settings.json").stat().st_mtime_ns
    assert claim_run_folder(str(folder), SETTINGS) == folder == tmp_path / "runs/mine"
    assert (folder / "settings.json").stat().st_mtime_ns == written


def test_other_settings_are_refused_and_each_change_is_named(tmp_path: Path) -> None:
    claim_run_folder(str(tmp_path), SETTINGS)
    with pytest.raises(ValueError) as caught:
        claim_run_folder(str(tmp_path), {**SETTINGS, "organs": ["liver", "spleen"], "train": {"epochs": 4}, "seed": 1})
    lines = str(caught.value).splitlines()
    assert lines[1:4] == [
        "  organs: was ['liver'], now ['liver', 'spleen']",
        "  seed: was None, now 1",
        "  train.epochs: was 3, now 4",
    ]
    assert "spacing" not in str(caught.value)


def test_a_refused_claim_leaves_the_folder_to_its_owner(tmp_path: Path) -> None:
    claim_run_folder(str(tmp_path), SETTINGS)
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match="was"):
        claim_run_folder(str(tmp_path), {})
    assert (tmp_path / "settings.json").read_bytes() == before


def test_an_object_counts_with_its_class_and_the_plain_arguments_that_it_keeps() -> None:
    blur = Blur(1.5, secret=3, network=torch.nn.Linear(1, 1))
    assert flat_settings({"blur": blur}) == {"blur.class": "Blur", "blur.width": 1.5}


def test_objects_of_the_same_arguments_are_the_same_settings(tmp_path: Path) -> None:
    claim_run_folder(str(tmp_path), {"blur": Blur(1.5)})
    claim_run_folder(str(tmp_path), {"blur": Blur(1.5)})
    with pytest.raises(ValueError, match="blur.width: was 1.5, now 2.0"):
        claim_run_folder(str(tmp_path), {"blur": Blur(2.0)})


@pytest.mark.parametrize("name", ["query_planner", "attention", "geometry", "intensity", "perturbation"])
def test_every_number_of_these_components_is_kept_and_so_remembered(name: str) -> None:
    parser = composed((TRUNK, "configs/train.yaml"))
    given = {f"{name}.{key}": value for key, value in parser[name].items() if key != "_target_"}
    settings = flat_settings({name: parser.get_parsed_content(name)})
    assert {key: settings[key] for key in given} == given
