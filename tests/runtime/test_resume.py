from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset

from scripts.preprocessing.slice_store import save_array
from scripts.runtime.plain_errors import complaint
from scripts.runtime.resume import BestModel, Resume, load_checkpoint, save_atomically
from scripts.runtime.streams import BatchStream


class Stage:
    """A trainer of one number, with momentum, beside a stream of batches that goes on with it."""

    def __init__(self, path: Path, fail_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.ran: list[int] = []
        self.fail_at = fail_at
        self.engine = Engine(self.step)
        objects = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
        self.batches = BatchStream()
        self.batches.start_at(-1)
        for handler in (Resume(str(path), objects), self.batches):
            handler.attach(self.engine)

    def step(self, engine: Engine, batch: Any) -> None:
        if engine.state.iteration == self.fail_at:
            raise KeyboardInterrupt
        self.ran.append(engine.state.iteration)
        self.optimizer.zero_grad()
        self.network(torch.tensor([[float(engine.state.iteration)]])).square().mean().backward()
        self.optimizer.step()
        self.schedule.step()

    def run(self, epochs: int = 4) -> Stage:
        self.engine.run([0, 0, 0], max_epochs=epochs)
        return self


def test_a_stage_that_is_stopped_ends_like_one_that_is_not(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Stage(tmp_path / "stopped.pt", fail_at=8).run()
    resumed, whole = Stage(tmp_path / "stopped.pt").run(), Stage(tmp_path / "whole.pt").run()
    assert resumed.ran == [7, 8, 9, 10, 11, 12]  # 3 iterations an epoch: the third epoch starts again
    assert resumed.batches.first == 6
    assert torch.equal(resumed.network.weight, whole.network.weight)
    assert resumed.schedule.get_last_lr() == whole.schedule.get_last_lr()


def test_a_stage_that_is_done_is_loaded_and_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = Stage(tmp_path / "stage.pt").run()
    written = (tmp_path / "stage.pt").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        again = Stage(tmp_path / "stage.pt").run()
    assert again.ran == []
    assert torch.equal(again.network.weight, done.network.weight)
    assert (tmp_path / "stage.pt").stat().st_mtime_ns == written
    assert "stage: done before, skipped" in caplog.text


def test_a_first_run_starts_the_stream_at_its_beginning(tmp_path: Path) -> None:
    assert Stage(tmp_path / "stage.pt").run(epochs=1).batches.first == 0


def test_a_checkpoint_is_written_after_every_epoch(tmp_path: Path) -> None:
    stage, path, epochs = Stage(tmp_path / "stage.pt"), tmp_path / "stage.pt", []
    stage.engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: epochs.append(load_checkpoint(path)["epoch"] if path.exists() else 0)
    )
    stage.run(epochs=4)
    assert epochs == [1, 2, 3, 4]


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pt"
    save_atomically({"value": torch.ones(2)}, path)

    def full_disk(content: Any, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_atomically({"value": torch.zeros(2)}, path)
    assert torch.equal(load_checkpoint(path)["value"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is POSIX only")
@pytest.mark.parametrize("write", [save_atomically, lambda content, path: save_array(path, content["value"].numpy())])
def test_a_full_disk_is_named_with_what_to_do(
    write: Callable[[Any, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    limits, content = resource.getrlimit(resource.RLIMIT_FSIZE), {"value": torch.ones(10**6)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises((OSError, RuntimeError)):  # room is left: something else is wrong
            write(content, tmp_path / "a.npy")
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 30, 1 << 30, 0))
        with pytest.raises(OSError, match="disk or quota full; free some space") as caught:
            write(content, tmp_path / "a.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert complaint(caught.value).startswith(f"{tmp_path}: disk or quota full")
    assert not list(tmp_path.iterdir())


def test_the_same_content_gives_the_same_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("one.pt", "other.pt"):
        save_atomically({"value": torch.ones(2)}, tmp_path / name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


def truncated(path: Path) -> None:
    save_atomically({"value": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:600])


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("not a checkpoint")


@pytest.mark.parametrize("damage", [truncated, empty, text])
def test_a_damaged_checkpoint_is_refused_with_what_to_do(damage: Callable[[Path], None], tmp_path: Path) -> None:
    damage(tmp_path / "stage.pt")
    with pytest.raises(ValueError, match=r"stage\.pt"):
        load_checkpoint(tmp_path / "stage.pt")


def test_of_a_damaged_checkpoint_of_its_own_a_stage_says_that_it_may_go(tmp_path: Path) -> None:
    truncated(tmp_path / "stage.pt")
    with pytest.raises(ValueError, match="; delete it to start again"):
        Stage(tmp_path / "stage.pt").run()


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"hook": print, "path": Path()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="holds more than weights"):
        load_checkpoint(tmp_path / "evil.pt")


def test_a_file_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(1), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="holds a Tensor"):
        load_checkpoint(tmp_path / "tensor.pt")


def validated(best: BestModel, value: float, *cases: str, **facts: Any) -> None:
    """One validation with this key metric, on these cases, of which these facts are known."""
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dice"  # type: ignore[attr-defined]
    best.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(dice=value))
    data = Dataset([{"case": case, **facts} for case in cases or ["anna"]])
    engine.run(DataLoader(data, batch_size=len(data)), max_epochs=1)


def test_only_a_better_validation_replaces_the_weights(tmp_path: Path) -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    best, kept = BestModel(str(tmp_path / "model.pt"), network), []
    for value in (0.5, 0.4, 0.5, 0.6):
        network.weight.data.fill_(value)
        validated(best, value)
        kept.append(round(float(load_checkpoint(tmp_path / "model.pt")["weight"]), 3))
    assert kept == [0.5, 0.5, 0.5, 0.6]


def test_a_resumed_run_remembers_the_best_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, network = str(tmp_path / "model.pt"), torch.nn.Linear(1, 1)
    before = BestModel(path, network)
    with caplog.at_level(logging.INFO):
        validated(before, 0.7)
        resumed = BestModel(path, network)
        resumed.load_state_dict(before.state_dict())
        written = Path(path).stat().st_mtime_ns
        validated(resumed, 0.6)
    assert Path(path).stat().st_mtime_ns == written
    assert "validation: dice 0.7000 (the first)" in caplog.text
    assert "validation: dice 0.6000 (best before 0.7000)" in caplog.text


def test_the_best_on_other_validation_cases_does_not_keep_later_weights_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A run of validation_limit 1 goes on with all cases, of which the others are harder: .6 may well be better than .7.
    path, network = str(tmp_path / "model.pt"), torch.nn.Linear(1, 1, bias=False)
    before, resumed = BestModel(path, network), BestModel(path, network)
    validated(before, 0.7, "anna")
    resumed.load_state_dict(before.state_dict())
    for value, kept in ((0.6, 0.6), (0.5, 0.6)):
        network.weight.data.fill_(value)
        validated(resumed, value, "anna", "ben")
        assert float(load_checkpoint(path)["weight"]) == pytest.approx(kept)
    assert caplog.text.count("the cases are others than before") == 1


def test_the_best_on_other_labels_of_the_validation_cases_does_not_count_either(tmp_path: Path) -> None:
    path, network, label = tmp_path / "model.pt", torch.nn.Linear(1, 1, bias=False), tmp_path / "data/label.nii"
    best, kept = BestModel(str(path), network), []
    label.parent.mkdir()
    label.write_bytes(b"liver")
    for value, change in enumerate((None, "folder", "organs", "label")):
        network.weight.data.fill_(value)
        if change == "folder":
            label = label.parent.rename(tmp_path / "moved") / "label.nii"
        elif change == "label":
            label.write_bytes(b"liver and spleen")
        organs = "liver" if value < 2 else "spleen"
        validated(best, 0.7 - value / 10, label=str(label), annotated=organs)
        kept.append(float(load_checkpoint(path)["weight"]))
    assert kept == [0, 0, 2, 3]


def test_a_validation_without_a_number_still_leaves_weights(tmp_path: Path) -> None:
    # No organ of the validation cases was contoured, or all were missed: the mean Dice is not a number.
    validated(BestModel(str(tmp_path / "model.pt"), torch.nn.Linear(1, 1)), float("nan"))
    assert (tmp_path / "model.pt").exists()
