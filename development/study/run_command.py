"""The command `python -m development.study run`: the runs of a study, one after another.

    python -m development.study run --dataset_dir OPENKBP --output_dir runs/study --arms slice supcon --seeds 0 1 2

Runs whose results are stored are skipped; one that was stopped goes on after its last epoch. Several processes may
share the folders if each gets seeds of its own. Any setting of the configs can be added, as in `--encoder::name
resnet50`; it overrides that of every run.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from development.study.composition import (
    PREDICTOR,
    ROOT,
    Places,
    commands_of,
    composed,
    count_labelled,
    is_two_stage,
    settings_of,
)
from development.study.plan import Plan, Run, check_names, read_plan
from development.study.results import Results
from development.study.single_run import RunFailed, carry_out
from scripts.runtime.composition import knows
from scripts.runtime.plain_errors import command_parser
from scripts.runtime.progress import readable_duration
from scripts.runtime.run_folder import changed_settings

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the study; 1 if a run failed."""
    options, rest = _parser().parse_known_args(arguments)
    plan, extra = read_plan(ROOT / options.plan), extra_settings(rest)
    check_settings(plan, extra)
    num_labelled = count_labelled(plan, options.dataset_dir, extra)
    runs = chosen_runs(plan, options, num_labelled)
    output = Path(options.output_dir).resolve()
    cache = Path(options.cache_dir).resolve() if options.cache_dir else output / "cache"
    dataset = Path(options.dataset_dir).resolve()
    places = Places(dataset, output, cache, options.threads, extra, options.keep_checkpoints)
    results = Results(Path(options.results_dir).resolve() if options.results_dir else output / "results")
    print(f"{dataset}: {num_labelled} labelled training patients; runs in {output}, results in {results.folder}")
    if options.dry_run:
        for run in runs:
            print(f"\n{run.name}{' (done)' if run.name in results.records else ''}: {plan.arms[run.arm].title}")
            for key, value in settings_of(plan, run, num_labelled, extra).items():
                print(f"  {key}: {value}")
            for command in commands_of(plan, run, places).values():
                print(f"  {shlex.join(command)}")
    print(f"{len(runs)} runs, {_done(runs, results)} done", flush=True)
    if options.dry_run:
        return 0
    failed = work_through(plan, runs, places, results, num_labelled)
    print(f"{_done(runs, results)} of {len(runs)} runs done, {len(failed)} failed.")
    return 1 if failed else 0


def work_through(plan: Plan, runs: Sequence[Run], places: Places, results: Results, num_labelled: int) -> list[Run]:
    """Carry out the runs that are not done, in their order; return those that failed or need one that failed."""
    refuse_other_settings(plan, runs, places, results, num_labelled)
    failed: list[Run] = []
    for number, run in enumerate(runs, start=1):
        if run.name in results.records:
            continue
        if set(failed) & set(plan.needs(run)):
            logger.info("left out, since what it needs failed: %s", run.name)
            failed.append(run)
            continue
        taken = [float(results.records[one.name]["wall_seconds"]) for one in runs if one.name in results.records]
        left = sum(taken) / max(1, len(taken)) * (len(runs) - _done(runs, results))
        logger.info("run %d of %d: %s (%s left)", number, len(runs), run.name, readable_duration(left) if left else "?")
        try:
            carry_out(plan, run, places, results, num_labelled)
        except RunFailed as error:
            failed.append(run)
            logger.error("%s", error)
    return failed


def refuse_other_settings(plan: Plan, runs: Sequence[Run], places: Places, results: Results, num_labelled: int) -> None:
    """Raise ValueError if stored results were made with other settings than they would be made with now."""
    for run in runs:
        wanted = settings_of(plan, run, num_labelled, places.extra)
        changed = changed_settings(results.records.get(run.name, {}).get("settings", wanted), wanted)
        if changed:
            raise ValueError(
                f"{results.folder} holds results of {run.name} with other settings:\n{changed}\nGive another "
                "--results_dir and --output_dir."
            )


def extra_settings(words: Sequence[str]) -> dict[str, Any]:
    """Settings by config id out of `--id value` pairs; values are read as YAML.

    >>> extra_settings(["--encoder::name", "resnet50", "--val_interval", "5"])
    {'encoder::name': 'resnet50', 'val_interval': 5}
    """
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or any(not name.startswith("--") for name in names):
        raise ValueError(f"'{' '.join(words)}' are no settings: give pairs such as --encoder::name resnet50.")
    for name, option in (("--seed", "--seeds"), ("--labelled_fraction", "--labelled")):
        if name in names:
            raise ValueError(f"{name} is set for each run: give {option}.")
    return {name.removeprefix("--"): yaml.safe_load(value) for name, value in zip(names, values, strict=True)}


def check_settings(plan: Plan, extra: Mapping[str, Any]) -> None:
    """Raise ValueError if a setting of the study, an arm or the command line does not exist; MONAI would add it."""
    for arm in plan.arms.values():
        parser = composed(plan, arm.name)
        layers = [plan.settings, *plan.regimes.values(), arm.settings, *arm.regime_settings.values(), extra]
        keys = {key for layer in layers for key in layer if not key.startswith(PREDICTOR) or is_two_stage(parser)}
        unknown = sorted(key for key in keys if not knows(parser, key.removeprefix("+")))
        if unknown:
            raise ValueError(f"the settings {unknown} do not exist in the configs of the arm {arm.name}.")


def chosen_runs(plan: Plan, options: argparse.Namespace, num_labelled: int) -> list[Run]:
    """The runs that the options select."""
    arms, regimes = options.arms or list(plan.arms), options.regimes or list(plan.regimes)
    check_names("arms", arms, plan.arms)
    check_names("regimes", regimes, plan.regimes)
    counts = [num_labelled if str(count) == "all" else int(count) for count in options.labelled or plan.labelled]
    if wrong := [count for count in counts if not 1 <= count <= num_labelled]:
        raise ValueError(f"--labelled {wrong}: {num_labelled} training cases have a label; give 1 to {num_labelled}.")
    return plan.runs(arms, regimes, counts, options.seeds or list(plan.seeds), num_labelled)


def _done(runs: Sequence[Run], results: Results) -> int:
    return sum(run.name in results.records for run in runs)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("development.study run", __doc__)
    parser.allow_abbrev = False  # other options are settings
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--output_dir", default="runs/study", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--results_dir", help="of the two files (default: OUTPUT_DIR/results)")
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--arms", nargs="+", help="names of arms (default: all)")
    parser.add_argument("--regimes", nargs="+", help="names of regimes (default: all)")
    parser.add_argument("--labelled", nargs="+", help="numbers of labelled patients, or all (default: the study's)")
    parser.add_argument("--seeds", nargs="+", type=int, help="(default: the study's)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run (default: %(default)s)")
    parser.add_argument("--cache_dir", help="slice cache (default: OUTPUT_DIR/cache)")
    parser.add_argument("--keep_checkpoints", action="store_true", help="also of runs that are done")
    parser.add_argument("--dry_run", action="store_true", help="print what would be run, and stop")
    return parser
