"""The check of a whole dataset before training: every problem in one report, in place of a crash after hours.

All files are read, voxels included, a few at a time; the result of a check without problems can be remembered in a
stamp file, which makes the next check instant for as long as no file changes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from ignite.distributed import one_rank_first
from tqdm import tqdm

from scripts.dataset.case_check import CaseFindings, Findings, Splits, check_case, divided_patients, duplicates
from scripts.dataset.datalist_file import is_photograph
from scripts.dataset.photograph_check import check_photograph
from scripts.dataset.problems import DatasetError, Kind, Problem, by_kind
from scripts.dataset.stamp import dataset_digest, read_stamp, write_stamp

logger = logging.getLogger(__name__)

TRAINING = "training"
VALIDATION = "validation"
# Reading is decompression, which threads do side by side; more of them than this wait for the disk (our choice).
MAX_WORKERS = 8
MAX_LOGGED_WARNINGS = 5


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of a dataset that passed the check.

    Attributes:
        cases: split -> number of cases.
        labelled: split -> number of cases with a label.
        organ_cases: split -> organ -> number of cases that show it (annotated, and with voxels of it).
        warnings: oddities that can be right, one line per kind, as logged.
    """

    cases: dict[str, int]
    labelled: dict[str, int]
    organ_cases: dict[str, dict[str, int]]
    warnings: list[str]

    def __str__(self) -> str:
        lines = []
        for split, count in self.cases.items():
            organs = ", ".join(f"{organ} {shown}" for organ, shown in self.organ_cases[split].items())
            lines.append(f"{split}: {count} cases, {self.labelled[split]} labelled; cases that show an organ: {organs}")
        return "\n".join(lines)


def check_dataset(
    splits: Splits,
    organs: Sequence[str],
    phases: Sequence[str] = (),
    folds: int = 1,
    stamp: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> DatasetSummary:
    """Check all cases of a dataset and report every problem at once.

    What is demanded of training applies to the split named ``training``, if there is one; ``validation`` must have a
    labelled case.

    Args:
        splits: split -> cases as ``scripts.dataset.datalists.load_cases`` returns them.
        organs: organs of the config.
        phases: contrast phases of the config; empty means that phases are not used.
        folds: folds of cross-fitting, each of which needs a labelled training case.
        stamp: file that remembers a check without problems; None checks anew each time.
        workers: files read side by side; None for one per core.
        progress: whether to show a progress bar with the remaining time.

    Returns:
        The dataset in numbers, also written to the log.

    Raises:
        DatasetError: a ValueError whose message lists every problem with its file and remedy.
        ValueError: ``organs`` or ``splits`` is empty, or ``folds`` is below 1.
    """
    if not organs or not splits or folds < 1:
        raise ValueError(
            f"check_dataset was given organs {list(organs)}, splits {list(splits)} and {folds} folds; expected at "
            "least one of each; fix the config."
        )
    with one_rank_first():  # the others then find its stamp
        return _checked(splits, organs, phases, folds, stamp, workers, progress)


def _checked(
    splits: Splits,
    organs: Sequence[str],
    phases: Sequence[str],
    folds: int,
    stamp: str | None,
    workers: int | None,
    progress: bool,
) -> DatasetSummary:
    digest = dataset_digest(splits, [list(organs), list(phases), folds]) if stamp else ""
    remembered = read_stamp(stamp, digest) if stamp else None
    if remembered:
        summary = DatasetSummary(**remembered)
        logger.info("No file of the dataset changed since it was checked (%s).", stamp)
    else:
        findings = _check_cases(splits, organs, phases, workers or min(os.cpu_count() or 1, MAX_WORKERS), progress)
        summary = _judge(splits, findings, organs, phases, folds)
        if stamp:
            write_stamp(stamp, digest, summary)
    for warning in summary.warnings:
        logger.warning(warning)
    logger.info("The dataset is in order.\n%s", summary)
    return summary


def _check_cases(
    splits: Splits, organs: Sequence[str], phases: Sequence[str], workers: int, progress: bool
) -> dict[str, list[CaseFindings]]:
    findings = {split: [CaseFindings() for _ in cases] for split, cases in splits.items()}
    with ThreadPoolExecutor(workers) as pool:
        jobs = {
            pool.submit(_check_of(case), case, organs, phases): (split, index)
            for split, cases in splits.items()
            for index, case in enumerate(cases)
        }
        done = tqdm(as_completed(jobs), total=len(jobs), desc="checking dataset", unit="case", disable=not progress)
        try:
            for job in done:
                split, index = jobs[job]
                findings[split][index] = job.result()
        # An interrupted check would otherwise still read every file that is left before it ends.
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return findings


def _check_of(case: Mapping[str, Any]) -> Callable[..., CaseFindings]:
    return check_photograph if is_photograph(case["image"]) else check_case


def _judge(
    splits: Splits, findings: Findings, organs: Sequence[str], phases: Sequence[str], folds: int
) -> DatasetSummary:
    """Join the findings of the cases with those about the dataset as a whole; raise if there is any problem."""
    problems = [problem for cases in findings.values() for case in cases for problem in case.problems]
    warnings = [warning for cases in findings.values() for case in cases for warning in case.warnings]
    problems += _too_few_cases(splits, folds) + duplicates(splits, findings) + divided_patients(splits)
    organ_cases = {split: _cases_per_organ(findings[split], organs) for split in splits}
    if splits.get(TRAINING):
        problems += _organs_without_example(splits[TRAINING], organ_cases[TRAINING])
        if folds > 1:
            warnings += [Problem(Kind.ONE_EXAMPLE, organ) for organ, n in organ_cases[TRAINING].items() if n == 1]
        unused = [phase for phase in phases if all(case.get("phase") != phase for case in splits[TRAINING])]
        warnings += [Problem(Kind.UNUSED_PHASE, phase) for phase in unused]
    if problems:
        raise DatasetError(problems)
    return DatasetSummary(
        cases={split: len(cases) for split, cases in splits.items()},
        labelled={split: _count_labelled(cases) for split, cases in splits.items()},
        organ_cases=organ_cases,
        warnings=_one_line_per_kind(warnings),
    )


def _count_labelled(cases: Sequence[Mapping[str, Any]]) -> int:
    return sum(1 for case in cases if case.get("label") and case["annotated"])


def _cases_per_organ(findings: Sequence[CaseFindings], organs: Sequence[str]) -> dict[str, int]:
    return {organ: sum(1 for case in findings if case.organ_voxels.get(organ)) for organ in organs}


def _too_few_cases(splits: Splits, folds: int) -> list[Problem]:
    problems = [Problem(Kind.NO_CASES, split, "no case") for split, cases in splits.items() if not cases]
    needed = {TRAINING: folds, VALIDATION: 1}
    for split, least in needed.items():
        cases = splits.get(split, ())
        labelled = _count_labelled(cases)
        if cases and labelled < least:
            wanted = f"{least} for {folds} folds" if split == TRAINING else f"{least}"
            found = f"{labelled} of {len(cases)} cases labelled with an organ of the config, expected at least {wanted}"
            problems.append(Problem(Kind.NO_CASES, split, found))
    return problems


def _organs_without_example(training: Sequence[Mapping[str, Any]], organ_cases: Mapping[str, int]) -> list[Problem]:
    problems = []
    for organ in (organ for organ, count in organ_cases.items() if count == 0):
        annotated = sum(1 for case in training if organ in case["annotated"])
        found = f"annotated in training cases: {annotated}, with voxels of it: 0, expected at least 1"
        problems.append(Problem(Kind.NO_EXAMPLE, organ, found))
    return problems


def _one_line_per_kind(warnings: Sequence[Problem]) -> list[str]:
    lines = []
    for kind, group in by_kind(warnings).items():
        more = f"; ... and {len(group) - MAX_LOGGED_WARNINGS} more" if len(group) > MAX_LOGGED_WARNINGS else ""
        shown = "; ".join(str(problem) for problem in group[:MAX_LOGGED_WARNINGS])
        lines.append(f"{kind.title} ({len(group)}; {kind.remedy}): {shown}{more}")
    return lines
