"""Experiment tracking of all stages: what `--tracking mlflow` does not see by itself.

MONAI adds its MLflow handler to three engines that it knows by id: the segmentation stage, its validation and the
evaluation. The other stages, the settings and the files of the run are logged from here, to the same MLflow run.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from scripts.runtime.processes import is_first_process
from scripts.runtime.progress import LISTENERS
from scripts.runtime.run_folder import flat_settings
from scripts.runtime.running_config import running_config


class ListedOutput:
    """Handler of a trainer that does not decollate: its output becomes a list of one, which MONAI's trackers expect."""

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before the handlers that want the list."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._list)

    def _list(self, engine: Engine) -> None:
        if not isinstance(engine.state.output, list):
            engine.state.output = [engine.state.output]  # type: ignore[assignment]


class RunTracking:
    """A run of an experiment, from its settings to its files; does nothing when tracking is off.

    A run that was stopped goes on in the same MLflow run: runs are known by their name. With `--tracking`, MONAI
    replaces the id `save_execute_config: true` (`executed_config`) by the path of a file, or by null. The files are the
    `artifacts`, names or patterns in the output folder, logged at the end. The settings (`parameters`; None: the whole
    config) get dotted names. ValueError if tracking is wanted and mlflow is not installed.
    """

    def __init__(
        self,
        executed_config: Any,
        tracking_uri: str,
        experiment_name: str,
        run_name: str,
        output_dir: str,
        artifacts: Sequence[str],
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.artifacts = Path(output_dir), list(artifacts)
        self.run_id: str | None = None
        if isinstance(executed_config, bool) or not is_first_process():
            return
        if find_spec("mlflow") is None:
            raise ValueError("--tracking needs mlflow, an extra package: pip install -r requirements-tracking.txt.")
        from filelock import FileLock  # which PyTorch needs too
        from mlflow.entities import Param

        with FileLock(self.output_dir / ".tracking.lock"):  # processes of an evaluation make one database
            self.handler = MLFlowHandler(tracking_uri=tracking_uri, experiment_name=experiment_name, run_name=run_name)
            self.handler.default_tracking_params = []  # it chooses experiment and run, and logs nothing of an engine
            self.handler.start(Engine(lambda _engine, _batch: None))
        self.run_id = str(self.handler.cur_run.info.run_id)  # type: ignore[attr-defined]
        settings = flat_settings(running_config() if parameters is None else parameters)
        logged = self.handler.client.get_run(self.run_id).data.params  # MLflow refuses to change a parameter
        new = [Param(key, str(value)) for key, value in settings.items() if key not in logged]
        self.handler.client.log_batch(self.run_id, params=new)
        LISTENERS.append(self.log_loss)

    def log_loss(self, stage: str, epoch: int, loss: float) -> None:
        """Log the mean loss of an epoch as `<stage>/loss`."""
        if self.run_id is not None:
            self.handler.client.log_metric(self.run_id, f"{stage}/loss", loss, step=epoch)

    def finish(self) -> None:
        """Log the files and end the run."""
        if self.run_id is None:
            return
        for pattern in self.artifacts:
            for path in sorted(self.output_dir.glob(pattern)):
                self.handler.client.log_artifact(self.run_id, str(path))
        LISTENERS.remove(self.log_loss)
        self.handler.close()
        self.run_id = None
