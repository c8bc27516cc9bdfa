"""From a run of the study to the bundle's commands: config files, settings, folders."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from development.study.plan import NO_REGIME, Plan, Run
from scripts.dataset.datalists import load_cases
from scripts.files.atomic_write import replacing
from scripts.runtime.running_config import bundle_command

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = "settings.yaml"
"""Settings of a run as the last config file, in its folder; with it the run can be repeated by hand."""

PREDICTOR = "network_def::"
"""What the ids of the predictor's arguments begin with."""

COARSE_PATH = "predictor::coarse_path"
"""Id that names the other checkpoint in an arm that averages two."""


@dataclass(frozen=True)
class Places:
    """Where a study reads and writes, and how it computes.

    `dataset_dir` has the dataset.json, `output_dir` gets the checkpoints, logs and weights of the runs, which share the
    slice cache in `cache_dir`. Each command uses `threads` CPU threads. The settings in `extra`, by config id, override
    those of every run. With `keep_checkpoints` a finished run keeps what it would need to go on.
    """

    dataset_dir: Path
    output_dir: Path
    cache_dir: Path
    threads: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    keep_checkpoints: bool = False

    def folder(self, run: Run) -> Path:
        """Working folder of a run."""
        return self.output_dir / run.name


def settings_of(plan: Plan, run: Run, num_labelled: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run by config id; later ones win: study, regime, other arms, arm, extra.

    The other arms are the coarse stage that the run begins with, and the members of a mean. The extra settings are
    those of the command line; `num_labelled` is the number of patients that have labels.
    """
    arm = plan.arms[run.arm]
    layers: list[Mapping[str, Any]] = [plan.settings]
    if run.regime != NO_REGIME:
        layers.append(plan.regimes[run.regime])
    # The numbers of the coarse stage must be the same, or it would be trained again.
    for part in [*(plan.arms[needed.arm] for needed in plan.needs(run)), arm]:
        layers += [part.settings, part.regime_settings.get(run.regime, {})]
    settings = {key: value for layer in [*layers, extra] for key, value in layer.items()}
    fraction = None if run.labelled >= num_labelled else run.labelled / num_labelled
    return {**settings, "labelled_fraction": fraction, "seed": run.seed}


def configs_of(plan: Plan, name: str) -> list[str]:
    """Config files of an arm, in order: those of the study, of the arm's last member, and its own."""
    arm = plan.arms[name]
    below = plan.arms[arm.members[-1]].overlays if arm.members else ()
    return [*plan.configs, *below, *arm.overlays]


def composed(plan: Plan, name: str, *more: Path) -> ConfigParser:
    """The merged config files of an arm, and further ones."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in (*configs_of(plan, name), *map(str, more))])
    return parser


def is_two_stage(parser: ConfigParser) -> bool:
    """Whether the predictor has two stages, so that it takes the settings of such."""
    return f"{PREDICTOR}coarse_weight" in parser


def write_settings(folder: Path, settings: Mapping[str, Any], parser: ConfigParser) -> None:
    """Write the settings as a config file into the folder of the run.

    Arguments of the two-stage predictor are left out where the arm's configs have another predictor.
    """
    taken = {key: value for key, value in settings.items() if not key.startswith(PREDICTOR) or is_two_stage(parser)}
    with replacing(folder / OVERLAY) as temporary:
        temporary.write_text(yaml.safe_dump(taken, sort_keys=False), encoding="utf-8")


def count_labelled(plan: Plan, dataset_dir: str, extra: Mapping[str, Any]) -> int:
    """Number of training cases that have a label; raises what `load_cases` does."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in plan.configs])
    parser.update(pairs={key: value for key, value in {**plan.settings, **extra}.items() if key == "organs"})
    cases = load_cases(dataset_dir, "training", list(parser.get_parsed_content("organs")))
    return sum("label" in case for case in cases)


def commands_of(plan: Plan, run: Run, places: Places) -> dict[str, list[str]]:
    """The commands of a run by name: training, unless it has members, and evaluation on the validation patients.

    The weights that are evaluated are its own, or of an arm with members those of the last one.
    """
    folder, arm = places.folder(run), plan.arms[run.arm]
    own = list(arm.overlays) if arm.members else []  # they change how the last member is evaluated
    files = [*configs_of(plan, arm.members[-1] if own else run.arm), str(folder / OVERLAY)]
    where: dict[str, Any] = {"dataset_dir": places.dataset_dir, "output_dir": folder, "cache_dir": places.cache_dir}
    training = {} if arm.members else {"training": [sys.executable, *bundle_command("training", files, **where)]}
    *coarse, trained = plan.needs(run) if arm.members else [run]
    where = {"model_path": places.folder(trained) / "model.pt", "dataset_dir": places.dataset_dir}
    where |= {"output_dir": folder / "evaluation", "run_dir": files}
    settings = settings_of(plan, run, run.labelled, places.extra)
    if "precision" in settings:  # of the machine: an evaluation does not take it over from a run
        where["precision"] = settings["precision"]
    if coarse:
        where[COARSE_PATH] = places.folder(coarse[0]) / "coarse.pt"
    return {**training, "evaluation": [sys.executable, *bundle_command("evaluate", [plan.evaluation, *own], **where)]}
