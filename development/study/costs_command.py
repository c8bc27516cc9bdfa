"""The command `python -m development.study costs`: what an epoch of every arm costs on one core of this machine.

    python -m development.study costs --dataset_dir OPENKBP --output_dir runs/costs

Each arm trains a few epochs of its stages after the coarse stage of its regime, one arm after another;
RESULTS_DIR/costs.json keeps core-seconds per epoch. From them the epochs of the plan are set, and the report says what
each arm cost, so that arms compare although their runs were made on other machines. What is measured already is
skipped. Run it on an idle core, or after `--arms coarse_stage` as one process for each core with `--arms` of its own. A
stage plans its queries once, which counts here as if it were done every six epochs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from development.study.claim import claimed
from development.study.composition import ROOT, Places, configs_of, settings_of, training_command, write_settings
from development.study.plan import COARSE_STAGE, Plan, Run, check_names, read_plan
from development.study.record import environment, stage_costs, write_json
from development.study.results import COSTS, read_costs, stage_kind
from development.study.run_command import labelled_patients
from development.study.single_run import run_logged, share_coarse_stage


def main(arguments: Sequence[str]) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--output_dir", default="runs/costs", help="folder of the trainings (default: %(default)s)")
    parser.add_argument("--results_dir", default="docs/results/study", help="of costs.json (default: %(default)s)")
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--regimes", nargs="+", help="names of regimes (default: the study's first)")
    parser.add_argument("--arms", nargs="+", help="names of arms (default: all)")
    parser.add_argument("--epochs", type=int, default=6, help="of each stage that is measured (default: %(default)s)")
    options = parser.parse_args(arguments)
    plan = read_plan(ROOT / options.plan)
    regimes, arms = options.regimes or list(plan.regimes)[:1], options.arms or list(plan.arms)
    check_names("arms", arms, plan.arms)
    check_names("regimes", regimes, plan.regimes)
    everybody = labelled_patients(plan, options.dataset_dir, {})
    output, results = Path(options.output_dir).resolve(), Path(options.results_dir).resolve()
    places = Places(Path(options.dataset_dir).resolve(), output, results, output / "cache")
    for regime in regimes:
        begin_with = plan.run_of(COARSE_STAGE, regime, everybody, plan.seeds[0])
        for run in runs_to_measure(plan, regime, everybody, arms):
            if cost_of(run, results) is None:
                seconds = measure(plan, run, begin_with, places, everybody, options.epochs)
                keep_cost(run, seconds, results)
            print(f"{run.regime}/{run.arm}: {cost_of(run, results)}", flush=True)
    return 0


def cost_of(run: Run, results: Path) -> dict[str, float] | None:
    """What is stored of the arm of a run; None if nothing is."""
    stored = (read_costs(results) or {}).get("core_seconds_per_epoch", {})
    found: dict[str, float] | None = stored.get(run.regime, {}).get(run.arm)
    return found


def keep_cost(run: Run, seconds: dict[str, float], results: Path) -> None:
    """Add core-seconds per epoch of each stage to what is stored, which another process may have added to meanwhile."""
    costs = read_costs(results) or {"core_seconds_per_epoch": {}}
    costs["core_seconds_per_epoch"].setdefault(run.regime, {})[run.arm] = seconds
    write_json(results / COSTS, {**costs, **environment(torch.device("cpu"))})


def runs_to_measure(plan: Plan, regime: str, everybody: int, arms: Sequence[str]) -> list[Run]:
    """One run of every given arm that trains something, the coarse stage, with which they begin, always and first.

    Few labels only where an arm asks for it.
    """
    few = min((int(count) for count in plan.labelled if count != "all"), default=everybody)
    chosen = dict.fromkeys([COARSE_STAGE, *arms])
    names = [name for name in chosen if not plan.arms[name].members]
    counts = {name: few if plan.arms[name].few_labels_only else everybody for name in names}
    return [plan.run_of(name, regime, counts[name], plan.seeds[0]) for name in names]


def measure(plan: Plan, run: Run, begin_with: Run, places: Places, everybody: int, epochs: int) -> dict[str, float]:
    """Core-seconds per epoch of each stage of an arm, on the CPU even where there is a GPU.

    The coarse network is the same in every arm, so that only the run `begin_with` measures it, over its whole training;
    the others begin with the result.
    """
    extra: dict[str, Any] = {}
    if run != begin_with:
        coarse = plan.arms[COARSE_STAGE]
        extra = {**coarse.settings, **coarse.regime_settings.get(begin_with.regime, {})}
        extra |= {"train::total_epochs": epochs, "contrastive::epochs": epochs}
    folder = places.folder(run)
    with claimed(folder) as descriptor:
        if descriptor is None:
            raise ValueError(f"{folder} belongs to another process: wait for it, or give another --output_dir.")
        write_settings(folder, settings_of(plan, run, everybody, extra), configs_of(plan, run.arm))
        if run != begin_with and plan.arms[run.arm].coarse != "none":
            share_coarse_stage(places.folder(begin_with), folder)
        command = ["env", "CUDA_VISIBLE_DEVICES=", *training_command(plan, run, places)]
        run_logged(folder, "training", command, 1, descriptor)
    return per_epoch(stage_costs(folder), coarse=run == begin_with)


def per_epoch(stages: dict[str, dict[str, float]], coarse: bool) -> dict[str, float]:
    """Core-seconds per epoch of each kind of stage, the coarse networks together or left out."""
    sums: dict[str, list[float]] = {}
    for name, stage in stages.items():
        kind = stage_kind(name)
        if coarse or kind != "coarse":
            seconds, epochs = sums.setdefault(kind, [0.0, 0.0])
            sums[kind] = [seconds + stage["core_seconds"], epochs + stage["epochs"]]
    return {kind: round(seconds / epochs, 2) for kind, (seconds, epochs) in sums.items()}
