"""From a run of the study to the bundle's commands: config files, settings, folders."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from development.study.plan import NO_REGIME, Plan, Run
from scripts.files.atomic_write import replacing
from scripts.runtime.plain_errors import bundle_command

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = "settings.yaml"
"""Settings of a run as the last overlay, written to its folder; with it the run can be repeated by hand."""

PREDICTOR = "network_def::"
"""What the ids of the predictor's arguments begin with."""

COARSE_PATH = "predictor::coarse_path"
"""Id that names the other checkpoint in an arm that is a mean."""


@dataclass(frozen=True)
class Places:
    """Where a study reads and writes, and how it computes.

    Attributes:
        dataset_dir: folder with the dataset.json.
        output_dir: of the runs: checkpoints, logs, weights.
        results_dir: of the small files that are kept.
        cache_dir: slice cache, shared by all runs.
        threads: of each run, on the CPU.
        extra: settings that are laid on those of every run.
        keep_checkpoints: keep what a finished run would need to go on.
    """

    dataset_dir: Path
    output_dir: Path
    results_dir: Path
    cache_dir: Path
    threads: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    keep_checkpoints: bool = False

    def folder(self, run: Run) -> Path:
        """Working folder of a run."""
        return self.output_dir / run.folder

    def results(self, run: Run) -> Path:
        """Folder of the results of a run."""
        return self.results_dir / run.folder

    def is_done(self, run: Run) -> bool:
        """Whether the results of a run are stored."""
        return (self.results(run) / "run.json").is_file() and (self.results(run) / "scores.csv").is_file()


def settings_of(plan: Plan, run: Run, everybody: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run by config id, the later ones winning: study, regime, other arms, arm, extra.

    The other arms are the coarse stage that the run begins with, and the members of a mean.

    Args:
        plan: the study.
        run: one of its runs.
        everybody: number of patients that have labels.
        extra: of the command line.
    """
    arm = plan.arms[run.arm]
    layers: list[Mapping[str, Any]] = [plan.settings]
    if run.regime != NO_REGIME:
        layers.append(plan.regimes[run.regime])
    # Of the coarse stage the same numbers, or it would be trained again.
    for part in [*(plan.arms[needed.arm] for needed in plan.needs(run)), arm]:
        layers += [part.settings, part.regime_settings.get(run.regime, {})]
    layers.append(extra)
    settings = {key: value for layer in layers for key, value in layer.items()}
    share = None if run.labelled >= everybody else run.labelled / everybody
    return {**settings, "labelled_fraction": share, "seed": run.seed}


def configs_of(plan: Plan, name: str) -> list[str]:
    """Config files of an arm, in order: those of the study, of the arm's last member, and its own."""
    arm = plan.arms[name]
    below = plan.arms[arm.members[-1]].overlays if arm.members else ()
    return [*plan.configs, *below, *arm.overlays]


def write_settings(folder: Path, settings: Mapping[str, Any], configs: Sequence[str]) -> Path:
    """Write the settings as an overlay into the folder of the run.

    Arguments of the two-stage predictor are left out where the arm's configs have another predictor.
    """
    path, parser = folder / OVERLAY, ConfigParser()
    parser.read_config([str(ROOT / name) for name in configs])
    taken = {key: value for key, value in settings.items() if not key.startswith(PREDICTOR) or key in parser}
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(taken, sort_keys=False), encoding="utf-8")
    return path


def training_command(plan: Plan, run: Run, places: Places) -> list[str]:
    """The command that trains all stages of a run which are not done."""
    folder = places.folder(run)
    files = [*configs_of(plan, run.arm), str(folder / OVERLAY)]
    where = {"output_dir": folder, "cache_dir": places.cache_dir}
    return [sys.executable, *bundle_command("training", files, dataset_dir=places.dataset_dir, **where)]


def evaluation_command(plan: Plan, run: Run, places: Places) -> list[str]:
    """The command that scores a run on the validation patients.

    The weights are its own, or of an arm with members those of the last one.
    """
    folder = places.folder(run)
    arm = plan.arms[run.arm]
    own = list(arm.overlays) if arm.members else []  # they change how the last member is evaluated
    trained_with = [*configs_of(plan, arm.members[-1] if own else run.arm), str(folder / OVERLAY)]
    where: dict[str, Any] = {"dataset_dir": places.dataset_dir, "output_dir": folder / "evaluation"}
    where["run_dir"] = str(trained_with)
    *coarse, trained = plan.needs(run) if arm.members else [run]
    if coarse:
        where[COARSE_PATH] = places.folder(coarse[0]) / "coarse.pt"
    where["model_path"] = places.folder(trained) / "model.pt"
    return [sys.executable, *bundle_command("evaluate", [plan.evaluation, *own], **where)]
