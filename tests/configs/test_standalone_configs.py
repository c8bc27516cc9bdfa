from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from config_compositions import INFERENCE, ROOT, composed
from monai.bundle import ConfigParser

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
