from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.runtime.composition import CONFIG
from scripts.runtime.resume import save_weights
from scripts.runtime.run_folder import MANIFEST, check_weights, claim, claim_run_folder, flat_settings

SETTINGS: dict[str, Any] = {"organs": ["liver"], "spacing": [2.0, 2.0, 3.0], "train": {"epochs": 3}, "device": "cpu"}
BEGAN = {"training_cases": 4}


def test_a_new_folder_is_made_and_may_be_claimed_again_with_the_same_settings(tmp_path: Path) -> None:
    folder = claim(tmp_path / "runs/mine", SETTINGS, BEGAN)
    written = (folder / CONFIG).stat().st_mtime_ns
    assert claim(folder, {**SETTINGS, "device": "cuda"}, BEGAN) == folder == tmp_path / "runs/mine"
    assert (folder / CONFIG).stat().st_mtime_ns == written
    assert yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")) == SETTINGS


def test_other_settings_are_refused_and_each_change_is_named(tmp_path: Path) -> None:
    claim(tmp_path, SETTINGS, BEGAN)
    changed = {**SETTINGS, "organs": ["liver", "spleen"], "train": {"epochs": 4}, "seed": 1}
    with pytest.raises(ValueError) as caught:
        claim(tmp_path, changed, {"training_cases": 5})
    assert str(caught.value).splitlines()[1:5] == [
        "  organs: was ['liver'], now ['liver', 'spleen']",
        "  seed: was None, now 1",
        "  train.epochs: was 3, now 4",
        "  training_cases: was 4, now 5",
    ]
    assert "spacing" not in str(caught.value)


def test_a_run_goes_on_with_its_data_set_moved_but_not_with_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.runtime.run_folder.running_config", lambda: SETTINGS)

    def claimed(folder: str, voxels: str = "voxels", organs: list[str] | None = None) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        label = tmp_path / folder / "a.nii.gz"
        label.write_text(voxels)
        case = {"case": "a", "label": str(label), "annotated": organs or ["liver"], "label_values": {"liver": 1}}
        claim_run_folder(str(tmp_path / "run"), 1, [case])

    claimed("data")
    claimed("moved")
    with pytest.raises(ValueError, match="  training_labels: was [0-9a-f]{12}, now [0-9a-f]{12}\nGive another"):
        claimed("data", "VOXELS")
    series = tmp_path / "data/series"
    series.mkdir()
    for name in ("1.dcm", "2.dcm"):
        (series / name).write_text("slice")
        case = {"case": "a", "image": str(series)}
        if name == "1.dcm":
            claim_run_folder(str(tmp_path / "of_series"), 1, [case])
    with pytest.raises(ValueError, match="training_data: was"):
        claim_run_folder(str(tmp_path / "of_series"), 1, [case])
    for changed in ({"voxels": "corrected voxels"}, {"organs": ["liver", "spleen"]}):
        with pytest.raises(ValueError, match="  training_data: was [0-9a-f]{12}, now [0-9a-f]{12}\n"):
            claimed("data", **changed)


def test_processes_that_have_not_joined_do_not_train_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.runtime.run_folder.running_config", lambda: SETTINGS)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, and each would train alone: start them by"):
        claim_run_folder(str(tmp_path / "run"), 1)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert claim_run_folder(str(tmp_path / "run"), 1).exists()


def test_a_run_that_did_not_note_its_data_set_goes_on(tmp_path: Path) -> None:
    claim(tmp_path, SETTINGS, BEGAN)
    assert claim(tmp_path, SETTINGS, {**BEGAN, "training_data": "of today"}) == tmp_path


def test_a_refused_claim_leaves_the_folder_to_its_owner(tmp_path: Path) -> None:
    claim(tmp_path, SETTINGS, BEGAN)
    before = (tmp_path / CONFIG).read_bytes()
    with pytest.raises(ValueError, match="was"):
        claim(tmp_path, {}, BEGAN)
    assert (tmp_path / CONFIG).read_bytes() == before


@pytest.mark.parametrize("half", ["organs: [liver", "organs", ""])
def test_a_config_that_is_not_whole_is_named(half: str, tmp_path: Path) -> None:
    claim(tmp_path, SETTINGS, BEGAN)
    save_weights({}, tmp_path / "model.pt")
    (tmp_path / CONFIG).write_text(half, encoding="utf-8")
    with pytest.raises(ValueError, match="config.yaml is not whole: delete it"):
        claim(tmp_path, SETTINGS, BEGAN)
    (tmp_path / CONFIG).unlink()
    assert claim(tmp_path, SETTINGS, BEGAN) == tmp_path


def test_a_folder_of_an_older_version_is_taken_over_by_the_command_that_made_it(tmp_path: Path) -> None:
    for name in ("settings.json", "model.pt"):
        (tmp_path / name).touch()
    claim(tmp_path, SETTINGS, BEGAN)
    assert (tmp_path / CONFIG).is_file()
    check_weights(tmp_path / "model.pt")


def test_the_manifest_has_the_checksum_of_the_weights_and_of_no_others(tmp_path: Path) -> None:
    folder, path = claim(tmp_path, SETTINGS, BEGAN), tmp_path / "model.pt"
    for epoch in range(3):
        save_weights({"epoch": epoch}, path)
        check_weights(path)
    assert len(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]["model.pt"]) == 2
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match="model.pt is not the file that the training in .* wrote"):
        check_weights(path)


def test_weights_outside_of_a_run_are_not_checked(tmp_path: Path) -> None:
    save_weights({"epoch": 0}, tmp_path / "model.pt")
    check_weights(tmp_path / "model.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_nested_settings_get_dotted_names_and_lists_of_plain_values_stay_lists() -> None:
    handlers = [{"_target_": "A", "sizes": [1, 2]}, "@b"]
    flat = flat_settings({"train": {"epochs": 3, "handlers": handlers}, "spacing": (1.0, 2.0)})
    assert flat == {
        "train.epochs": 3,
        "train.handlers.0._target_": "A",
        "train.handlers.0.sizes": [1, 2],
        "train.handlers.1": "@b",
        "spacing": [1.0, 2.0],
    }
