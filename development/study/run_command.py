"""The command `python -m development.study run`: options, the plan in words, and the runs.

    python -m development.study run --dataset_dir OPENKBP --output_dir runs/study --arms slice frozen --seeds 0 1

What is done is skipped, what was stopped goes on. Several processes with the same arguments share the work. Any setting
of the configs can be added, as in `--encoder::name resnet50`; it is laid on those of every run.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from development.study.composition import (
    ROOT,
    Places,
    configs_of,
    evaluation_command,
    settings_of,
    training_command,
)
from development.study.plan import Plan, Run, check_names, read_plan
from development.study.queue import seconds_left, work_through
from development.study.results import read_record
from scripts.dataset.datalists import load_cases
from scripts.runtime.progress import readable_duration


def main(arguments: Sequence[str]) -> int:
    """Run the study; 1 if a run failed."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    plan = read_plan(ROOT / options.plan)
    extra = extra_settings(rest)
    check_settings(plan, extra)
    everybody = labelled_patients(plan, options.dataset_dir, extra)
    runs = chosen_runs(plan, options, everybody)
    output = Path(options.output_dir).resolve()
    places = Places(
        dataset_dir=Path(options.dataset_dir).resolve(),
        output_dir=output,
        results_dir=Path(options.results_dir).resolve(),
        cache_dir=Path(options.cache_dir).resolve() if options.cache_dir else output / "cache",
        threads=options.threads,
        extra=extra,
        keep_checkpoints=options.keep_checkpoints,
    )
    if options.list:
        print(list_of(runs, places))
        return 0
    print(description(plan, runs, places, everybody), flush=True)
    if options.dry_run:
        print(commands_in_words(plan, runs, places, everybody))
        return 0
    failed = work_through(plan, runs, places, everybody)
    print(f"{sum(map(places.is_done, runs))} of {len(runs)} runs done, {len(failed)} failed.")
    return 1 if failed else 0


def extra_settings(words: Sequence[str]) -> dict[str, Any]:
    """Settings by config id out of `--id value` pairs; values are read as YAML.

    >>> extra_settings(["--encoder::name", "resnet50", "--val_interval", "5"])
    {'encoder::name': 'resnet50', 'val_interval': 5}
    """
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or any(not name.startswith("--") for name in names):
        raise ValueError(f"'{' '.join(words)}' are no settings: give pairs such as --encoder::name resnet50.")
    return {name.removeprefix("--"): yaml.safe_load(value) for name, value in zip(names, values, strict=True)}


def labelled_patients(plan: Plan, dataset_dir: str, extra: Mapping[str, Any]) -> int:
    """How many training cases have a label; raises what `load_cases` does."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in plan.configs])
    parser.update(pairs={key: value for key, value in {**plan.settings, **extra}.items() if key == "organs"})
    cases = load_cases(dataset_dir, "training", list(parser.get_parsed_content("organs")))
    return sum("label" in case for case in cases)


def check_settings(plan: Plan, extra: Mapping[str, Any]) -> None:
    """Raise ValueError if a setting of the study, an arm or the command line does not exist; MONAI would add it."""
    for arm in plan.arms.values():
        parser = ConfigParser()
        parser.read_config([str(ROOT / name) for name in configs_of(plan, arm.name)])
        layers = [plan.settings, *plan.regimes.values(), arm.settings, *arm.regime_settings.values(), extra]
        unknown = sorted({key for layer in layers for key in layer if not _exists(parser, key)})
        if unknown:
            raise ValueError(f"the settings {unknown} do not exist in the configs of the arm {arm.name}.")


def chosen_runs(plan: Plan, options: argparse.Namespace, everybody: int) -> list[Run]:
    """The runs that the options ask for."""
    arms = options.arms or list(plan.arms)
    regimes = options.regimes or list(plan.regimes)
    check_names("arms", arms, plan.arms)
    check_names("regimes", regimes, plan.regimes)
    counts = [everybody if str(count) == "all" else int(count) for count in options.labelled or plan.labelled]
    if wrong_counts := [count for count in counts if not 1 <= count <= everybody]:
        raise ValueError(f"--labelled {wrong_counts}: {everybody} training cases have a label; give 1 to {everybody}.")
    return plan.runs(arms, regimes, counts, options.seeds or list(plan.seeds), everybody)


def description(plan: Plan, runs: Sequence[Run], places: Places, everybody: int) -> str:
    """The plan in words."""
    groups: dict[tuple[str, int], dict[str, list[int]]] = {}
    for run in runs:
        groups.setdefault((run.regime, run.labelled), {}).setdefault(run.arm, []).append(run.seed)
    lines = [
        f"data     {places.dataset_dir} ({everybody} labelled training patients)",
        f"runs     {places.output_dir}",
        f"results  {places.results_dir}",
        f"threads  {places.threads}",
    ]
    if places.extra:
        lines.append(f"extra    {dict(places.extra)}")
    for (regime, labelled), arms in groups.items():
        lines.append(f"regime {regime}, {labelled} labelled:")
        lines += [f"  {plan.arms[arm].title:<34} seeds {' '.join(map(str, seeds))}" for arm, seeds in arms.items()]
    done = sum(map(places.is_done, runs))
    left = readable_duration(seconds_left(runs, places))
    lines.append(f"{len(runs)} runs, {done} done; about {left} left on {places.threads} thread(s)")
    return "\n".join(lines)


def list_of(runs: Sequence[Run], places: Places) -> str:
    """Every run with what it cost, or that it is not done."""
    lines = []
    for run in runs:
        state = "-"
        if places.is_done(run):
            record = read_record(places.results(run))
            state = f"done, {record['training_core_seconds']:.0f} core-seconds of training"
        lines.append(f"{run.folder!s:<48} {state}")
    return "\n".join([*lines, f"{sum(map(places.is_done, runs))} of {len(runs)} done"])


def commands_in_words(plan: Plan, runs: Sequence[Run], places: Places, everybody: int) -> str:
    """Settings and commands of every run, as they would be run."""
    lines = []
    for run in runs:
        arm = plan.arms[run.arm]
        lines.append(f"\n{run.folder}{' (done)' if places.is_done(run) else ''}")
        lines += [f"  {key}: {value}" for key, value in settings_of(plan, run, everybody, places.extra).items()]
        if not arm.members:
            lines.append(f"  {shlex.join(training_command(plan, run, places))}")
        lines.append(f"  {shlex.join(evaluation_command(plan, run, places))}")
    return "\n".join(lines)


def _exists(parser: ConfigParser, key: str) -> bool:
    """Whether a setting is there, or may be a new argument of a component that is there."""
    name, parent = key.removeprefix("+"), key.removeprefix("+").rpartition("::")[0]
    if name in parser or parent not in parser:
        return name in parser
    component = parser[parent]
    return isinstance(component, dict) and "_target_" in component


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m development.study run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--output_dir", default="runs/study", help="folder of the runs (default: %(default)s)")
    parser.add_argument(
        "--results_dir", default="docs/results/study", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--arms", nargs="+", help="names of arms (default: all)")
    parser.add_argument("--regimes", nargs="+", help="names of regimes (default: all)")
    parser.add_argument("--labelled", nargs="+", help="numbers of labelled patients, or all (default: the study's)")
    parser.add_argument("--seeds", nargs="+", type=int, help="(default: the study's)")
    parser.add_argument("--threads", type=int, default=1, help="of each run, on the CPU (default: %(default)s)")
    parser.add_argument("--cache_dir", help="slice cache (default: OUTPUT_DIR/cache)")
    parser.add_argument("--keep_checkpoints", action="store_true", help="also of runs that are done")
    parser.add_argument("--dry_run", action="store_true", help="print what would be run, and stop")
    parser.add_argument("--list", action="store_true", help="print which runs are done, and stop")
    return parser
