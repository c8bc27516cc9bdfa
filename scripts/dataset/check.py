"""The check of a whole dataset before training: every problem in one report, in place of a crash after hours.

All files are read, voxels included. A stamp file of a check without problems spares the next, until a file changes.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from ignite.distributed import one_rank_first
from tqdm.contrib.concurrent import thread_map

from scripts.dataset.case_check import CaseFindings, check_case, check_photograph
from scripts.dataset.datalist_file import files_of, is_photograph
from scripts.dataset.problems import DatasetError, Kind, Problem, by_kind, listed
from scripts.dicom.headers import file_states
from scripts.files.atomic_write import write_text

logger = logging.getLogger(__name__)

TRAINING, VALIDATION = "training", "validation"
# Reading is decompression, which threads do side by side; more of them than this wait for the disk (our choice).
MAX_WORKERS = 8
MAX_LOGGED_WARNINGS = 5
# Raise it when a check is added or tightened, so that stamps of older checks no longer count.
CHECK_VERSION = 3

Splits = Mapping[str, Sequence[Mapping[str, Any]]]
Findings = Mapping[str, Sequence[CaseFindings]]


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of a dataset that passed the check: of all cases, and of the labelled ones, by split."""

    cases: dict[str, int]
    labelled: dict[str, int]
    organ_cases: dict[str, dict[str, int]]  # split -> organ -> cases that show it (annotated, and with voxels of it)
    warnings: list[str]  # oddities that can be right, one line per kind, as logged

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
    progress: bool = True,
    known: dict[str, CaseFindings] | None = None,
) -> DatasetSummary:
    """Check all cases of a dataset, report every problem at once by a DatasetError, and log the dataset in numbers.

    The splits hold cases of ``load_cases``. What is demanded of training applies to the split named ``training``, if
    there is one, and each fold of cross-fitting needs a labelled case of it; ``validation`` must have a labelled case.
    `stamp` is the file that remembers a check without problems; None checks anew each time. `known` keeps what
    was found in each case for the next check, of other splits of these cases.
    """
    if not organs or not splits or folds < 1:
        given = f"organs {list(organs)}, splits {list(splits)} and {folds} folds"
        raise ValueError(f"check_dataset was given {given}; expected at least one of each; fix the config.")
    with one_rank_first():  # the others then find its stamp
        digest = dataset_digest(splits, [list(organs), list(phases), folds]) if stamp else ""
        remembered = _read_stamp(stamp, digest) if stamp else None
        if remembered:
            summary = DatasetSummary(**remembered)
            logger.info("No file of the dataset changed since it was checked (%s).", stamp)
        else:
            found = _check_cases(splits, organs, phases, progress, {} if known is None else known)
            summary = _judge(splits, found, organs, phases, folds)
            if stamp:
                _write_stamp(stamp, digest, asdict(summary))
    for warning in summary.warnings:
        logger.warning(warning)
    logger.info("The dataset is in order.\n%s", summary)
    return summary


def _check_cases(
    splits: Splits, organs: Sequence[str], phases: Sequence[str], progress: bool, known: dict[str, CaseFindings]
) -> Findings:
    def check(case: Mapping[str, Any]) -> CaseFindings:
        if (key := json.dumps(case, default=str)) not in known:
            known[key] = (check_photograph if is_photograph(case["image"]) else check_case)(case, organs, phases)
        return known[key]

    jobs = [case for cases in splits.values() for case in cases]
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    found = thread_map(check, jobs, max_workers=workers, desc="checking dataset", unit="case", disable=not progress)
    done = iter(found)
    return {split: list(islice(done, len(cases))) for split, cases in splits.items()}


def _judge(
    splits: Splits, findings: Findings, organs: Sequence[str], phases: Sequence[str], folds: int
) -> DatasetSummary:
    """Join the findings of the cases with those about the dataset as a whole; raise if there is any problem."""
    problems = [problem for cases in findings.values() for case in cases for problem in case.problems]
    warnings = [warning for cases in findings.values() for case in cases for warning in case.warnings]
    labelled = {name: sum(bool(case.get("label") and case["annotated"]) for case in splits[name]) for name in splits}
    organ_cases = {
        split: {organ: sum(bool(case.organ_voxels.get(organ)) for case in cases) for organ in organs}
        for split, cases in findings.items()
    }
    problems += _too_few_cases(splits, labelled, folds) + _duplicates(splits, findings)
    if training := splits.get(TRAINING):
        for organ in (organ for organ, count in organ_cases[TRAINING].items() if count == 0):
            annotated = sum(organ in case["annotated"] for case in training)
            found = f"annotated in training cases: {annotated}, with voxels of it: 0, expected at least 1"
            problems.append(Problem(Kind.NO_EXAMPLE, organ, found))
        if folds > 1:
            warnings += [Problem(Kind.ONE_EXAMPLE, organ) for organ, n in organ_cases[TRAINING].items() if n == 1]
        used = {case.get("phase") for case in training}
        warnings += [Problem(Kind.UNUSED_PHASE, phase) for phase in phases if phase not in used]
    if problems:
        raise DatasetError(problems)
    lines = [
        f"{kind.title} ({len(group)}; {kind.remedy}): {listed(group, MAX_LOGGED_WARNINGS, '; ')}"
        for kind, group in by_kind(warnings).items()
    ]
    return DatasetSummary({split: len(cases) for split, cases in splits.items()}, labelled, organ_cases, lines)


def _too_few_cases(splits: Splits, labelled: Mapping[str, int], folds: int) -> list[Problem]:
    problems = [Problem(Kind.NO_CASES, split, "no case") for split, cases in splits.items() if not cases]
    for split, least, why in ((TRAINING, folds, f" for {folds} folds"), (VALIDATION, 1, "")):
        count, enough = len(splits.get(split, ())), labelled.get(split, 0) >= least
        if count and not enough:
            found = f"{labelled[split]} of {count} cases labelled with an organ of the config"
            problems.append(Problem(Kind.NO_CASES, split, f"{found}, expected at least {least}{why}"))
    return problems


def _duplicates(splits: Splits, findings: Findings) -> list[Problem]:
    """Cases whose image is the same file as an earlier case's, or a file with the same voxels."""
    problems = []
    first: dict[str | None, str] = {}
    for split, cases in splits.items():
        for case, found in zip(cases, findings[split], strict=True):
            here = f"{case['image']} ({split})"
            same_file = first.setdefault(os.path.realpath(case["image"]), here)
            same_voxels = first.setdefault(found.image_hash, here) if found.image_hash else here
            what, earlier = ("file", same_file) if same_file is not here else ("voxels", same_voxels)
            if earlier is not here:
                problems.append(Problem(Kind.DUPLICATE, here, f"the same {what} as {earlier}"))
    return problems


def dataset_digest(splits: Splits, settings: Sequence[Any]) -> str:
    """Digest the cases, the settings of the check, and path, size and modification time of every file."""
    cases = {split: [dict(case) for case in entries] for split, entries in splits.items()}
    paths = sorted({path for entries in splits.values() for path in files_of(entries)})
    files = [state for path in paths for state in file_states(path)]
    content = json.dumps([CHECK_VERSION, cases, list(settings), files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read_stamp(stamp: str, digest: str) -> dict[str, Any] | None:
    """What was remembered under the digest, None if there is no stamp of it."""
    try:
        with open(stamp, encoding="utf-8") as stream:
            content = json.load(stream)
        return dict(content["summary"]) if content["digest"] == digest else None
    # A stamp that cannot be read costs one check, nothing more.
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_stamp(stamp: str, digest: str, summary: Mapping[str, Any]) -> None:
    """Remember a check; a place that cannot be written to is logged, not raised, since the dataset is in order."""
    try:
        write_text(stamp, json.dumps({"digest": digest, "summary": summary}, indent=1))
    except OSError as error:
        logger.warning("The dataset check cannot be remembered in %s (%s); it will run again next time.", stamp, error)
