"""One run after another, until all are done or taken by somebody else."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from development.study.claim import claimed
from development.study.composition import Places, settings_of
from development.study.plan import Plan, Run
from development.study.results import read_record
from development.study.single_run import RunFailed, carry_out
from scripts.runtime.progress import readable_duration
from scripts.runtime.run_folder import changed_settings

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 20.0
"""Between two looks at runs that another process is working on."""

UNKNOWN_SECONDS = 600.0
"""Assumed for a run before the first one is done: about ten minutes of one core."""


def work_through(plan: Plan, runs: Sequence[Run], places: Places, everybody: int) -> list[Run]:
    """Carry the runs out in their order; what is done is skipped, what another process has is left to it.

    A run that fails does not stop the others, but those that need it are left out.

    Args:
        plan: the study.
        runs: each behind those that it needs.
        places: folders and threads.
        everybody: number of patients that have labels.

    Returns:
        The runs that failed or could not be started.
    """
    refuse_other_settings(plan, runs, places, everybody)
    failed: set[Run] = set()
    while waiting := [run for run in runs if not places.is_done(run) and run not in failed]:
        worked = False
        for run in waiting:
            if failed & set(plan.needs(run)):
                failed.add(run)
                logger.info("left out, since what it needs failed: %s", run.folder)
            elif all(places.is_done(needed) for needed in plan.needs(run)):
                worked |= _attempt(plan, run, places, everybody, runs, failed)
        if not worked and any(not places.is_done(run) and run not in failed for run in runs):
            time.sleep(PATIENCE_SECONDS)
    return [run for run in runs if run in failed]


def refuse_other_settings(plan: Plan, runs: Sequence[Run], places: Places, everybody: int) -> None:
    """Raise ValueError if stored results were made with other settings than they would be made with now."""
    for run in runs:
        if not places.is_done(run):
            continue
        wanted, found = settings_of(plan, run, everybody, places.extra), read_record(places.results(run))["settings"]
        changed = changed_settings(found, wanted)
        if changed:
            raise ValueError(
                f"{places.results(run)} holds results of other settings:\n{changed}\nGive another --results_dir and "
                "--output_dir, or delete that folder and the run's to do it again."
            )


def seconds_left(runs: Sequence[Run], places: Places) -> float:
    """Wall seconds of the runs that are not done: as long as the same arm took, else as the others took."""
    taken: dict[str, list[float]] = {}
    for run in runs:
        if places.is_done(run):
            taken.setdefault(run.arm, []).append(float(read_record(places.results(run))["wall_seconds"]))
    all_taken = [seconds for of_arm in taken.values() for seconds in of_arm]
    usual = sum(all_taken) / len(all_taken) if all_taken else UNKNOWN_SECONDS
    means = {arm: sum(of_arm) / len(of_arm) for arm, of_arm in taken.items()}
    return sum(means.get(run.arm, usual) for run in runs if not places.is_done(run))


def _attempt(plan: Plan, run: Run, places: Places, everybody: int, runs: Sequence[Run], failed: set[Run]) -> bool:
    """Do a run if nobody else is doing it; whether it was tried."""
    with claimed(places.folder(run)) as descriptor:
        if descriptor is None or places.is_done(run):
            return False
        number, began = runs.index(run) + 1, time.monotonic()
        left = readable_duration(seconds_left(runs, places))
        logger.info("run %d of %d: %s (about %s left for all)", number, len(runs), run.folder, left)
        try:
            carry_out(plan, run, places, everybody, descriptor)
        except RunFailed as error:
            failed.add(run)
            logger.error("%s", error)
            return True
        logger.info("  done in %s: %s", readable_duration(time.monotonic() - began), places.results(run))
    return True
