from __future__ import annotations

from pathlib import Path

import pytest

from scripts.monai_label.fine_tuning import REPORT, FineTuning, begin_run, replace_weights

CONFIG = {"train": {"epochs": 2}}
BEGUN = {"weights": "abc"}


def test_the_first_run_of_a_folder_is_number_one(tmp_path: Path) -> None:
    assert begin_run(tmp_path / "runs", CONFIG, BEGUN) == tmp_path / "runs/fine_tuning_001"


def test_an_unfinished_run_goes_on_with_what_it_was_begun_with(tmp_path: Path) -> None:
    first = begin_run(tmp_path, CONFIG, BEGUN)
    assert begin_run(tmp_path, CONFIG, BEGUN) == first


def test_a_finished_run_is_followed_by_another(tmp_path: Path) -> None:
    (begin_run(tmp_path, CONFIG, BEGUN) / REPORT).touch()
    assert begin_run(tmp_path, CONFIG, BEGUN).name == "fine_tuning_002"


def test_an_unfinished_run_of_other_weights_is_left_alone(tmp_path: Path) -> None:
    first = begin_run(tmp_path, CONFIG, BEGUN)
    before = (first / "config.yaml").read_bytes()
    assert begin_run(tmp_path, CONFIG, {**BEGUN, "weights": "def"}).name == "fine_tuning_002"
    assert (first / "config.yaml").read_bytes() == before


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    for name in ("fine_tuning_999", "fine_tuning_draft", "fine_tuning_1000"):
        (tmp_path / name).mkdir()
    (tmp_path / "fine_tuning_1000" / REPORT).touch()
    assert begin_run(tmp_path, CONFIG, BEGUN).name == "fine_tuning_1001"


def test_replaced_weights_are_kept_under_a_longer_name_beside_them(tmp_path: Path) -> None:
    target, new = tmp_path / "model.pt", tmp_path / "new.pt"
    target.write_bytes(b"old")
    new.write_bytes(b"new")
    kept = replace_weights(new, target)
    assert (target.read_bytes(), kept.read_bytes()) == (b"new", b"old")
    assert kept.parent == tmp_path
    assert kept.suffix == ".pt"
    assert len(kept.name) > len(target.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept.name, "model.pt", "new.pt"])


def test_several_processes_that_have_not_joined_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="fine-tuning runs in one process: start it without torchrun"):
        object.__new__(FineTuning).run()
