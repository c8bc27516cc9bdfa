"""Experiment tracking: every stage of a training and its evaluation in one experiment, read back with MLflow itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_compositions import ROOT
from filelock import FileLock, Timeout
from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler, from_engine

from scripts.runtime import tracking
from scripts.runtime.progress import LISTENERS
from scripts.runtime.tracking import ListedOutput, RunTracking

pytest.importorskip("mlflow", reason="requirements-tracking.txt is not installed")
pytest.importorskip("sqlalchemy")


def run_tracking(folder: Path, executed_config: Any = "config.json", **changes: Any) -> RunTracking:
    settings: dict[str, Any] = {
        "tracking_uri": f"sqlite:///{folder}/mlruns.db",
        "experiment_name": "tests",
        "run_name": "mine",
        "output_dir": str(folder),
        "parameters": {"seed": 0, "train": {"epochs": 2}},
        "artifacts": ["*.json", "none.pt"],
    }
    return RunTracking(executed_config, **{**settings, **changes})


def runs_of(folder: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns.db")
    experiment = client.get_experiment_by_name("tests")
    return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.parametrize("executed_config", [True, False])
def test_without_tracking_nothing_is_logged_and_mlflow_is_not_needed(
    executed_config: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    run = run_tracking(tmp_path, executed_config)
    assert LISTENERS == []
    run.finish()
    assert list(tmp_path.iterdir()) == []


def test_an_output_becomes_a_list_of_one_for_the_handlers_after_it() -> None:
    seen: list[Any] = []
    engine = Engine(lambda _engine, batch: {"loss": batch})
    ListedOutput().attach(engine)
    loss = from_engine(["loss"], first=True)  # as MONAI's tracking settings have it
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(loss(engine.state.output)))
    engine.run([1, 2])
    assert seen == [1, 2]


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs mlflow, .*: pip install -r requirements-tracking.txt"):
        run_tracking(tmp_path)
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    wanted = (ROOT / "requirements-tracking.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in wanted if not line.startswith("#") and line not in pins] == []


def test_a_run_that_was_stopped_goes_on_in_the_same_mlflow_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_alone(handler: MLFlowHandler, engine: Engine, start: Any = MLFlowHandler.start) -> None:
        with pytest.raises(Timeout):  # of two that make a database together one finds half of its tables
            FileLock(tmp_path / ".tracking.lock").acquire(timeout=0)
        start(handler, engine)

    monkeypatch.setattr(MLFlowHandler, "start", start_alone)
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    stopped = run_tracking(tmp_path)
    for listener in LISTENERS:
        listener("coarse", 1, 0.75)
    LISTENERS.remove(stopped.log_loss)  # its process is gone
    more = {"parameters": {"seed": 0, "train": {"epochs": 2}} | {f"p{n}": n for n in range(150)}}
    resumed = run_tracking(tmp_path, **more)
    for listener in LISTENERS:
        listener("coarse", 2, 0.5)
    resumed.finish()
    assert LISTENERS == []
    (run,) = runs_of(tmp_path)
    assert run.info.run_name == "mine" and run.info.status == "FINISHED"
    assert run.data.params.items() >= {"seed": "0", "train.epochs": "2", "p149": "149"}.items()
    assert run.data.metrics == {"coarse/loss": 0.5}
    assert [path.name for path in (tmp_path / "mlruns").rglob("settings.json")] == ["settings.json"]
