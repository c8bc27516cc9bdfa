"""Which case belongs to which split: always by patient, never by scan.

Folds are dealt as nnU-Net deals them (scikit-learn's KFold, shuffled, seed 12345, over the sorted names), so that
results over five folds of the same cases can be set beside its published ones.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.model_selection import KFold, train_test_split

from scripts.dataset.datalist_file import case_name, read_json
from scripts.dataset.problems import listed

SPLITS = TRAINING, VALIDATION, TEST = "training", "validation", "test"
NNUNET_SEED = 12345
SPELLINGS = {"train": TRAINING, "val": VALIDATION} | {split: split for split in SPLITS}
Split = dict[str, str]
"""Case (or patient) -> its split."""


def deal_folds(names: Sequence[str], folds: int = 5, seed: int = NNUNET_SEED) -> list[Split]:
    """Deal cases or patients into at least two folds; fold k is the validation of the k-th split."""
    ordered = sorted(set(names))
    if not 2 <= folds <= len(ordered):
        raise ValueError(f"{folds} folds of {len(ordered)} patients are not possible; give 2 to {len(ordered)} folds.")
    dealt = KFold(folds, shuffle=True, random_state=seed).split(ordered)
    return [dict.fromkeys(ordered, TRAINING) | {ordered[n]: VALIDATION for n in held_out} for _, held_out in dealt]


def hold_out(names: Sequence[str], validation: float, test: float = 0.0, seed: int = 0) -> Split:
    """Draw the patients of validation (at least one) and test at random, by their shares; the others train."""
    ordered = sorted(set(names))
    counts = {VALIDATION: max(1, round(validation * len(ordered))), TEST: round(test * len(ordered))}
    held_out = sum(counts.values())
    if min(validation, test) < 0 or held_out >= len(ordered):
        raise ValueError(
            f"shares of {validation:g} for validation and {test:g} for test hold out {held_out} of {len(ordered)} "
            "labelled patients; lower them or add labelled patients, so that some are left to train on."
        )
    _, drawn = train_test_split(ordered, test_size=held_out, random_state=seed)
    validating = dict.fromkeys(drawn[: counts[VALIDATION]], VALIDATION)
    return dict.fromkeys(ordered, TRAINING) | dict.fromkeys(drawn, TEST) | validating


def read_splits(path: str, cases: Sequence[str]) -> list[Split]:
    """Read a user's split of the cases: one JSON object of lists, or a list of such objects, one for each fold.

    Names are those of cases or of their files; ``train`` and ``val`` are understood, so a ``splits_final.json`` of
    nnU-Net can be given as it is. A ValueError tells of an unknown case, one that is named twice, or an empty split.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"split file '{path}' does not exist; fix the path.")
    content = read_json(path, "split file")
    folds = content if isinstance(content, list) else [content]
    if not folds or not all(_is_split(fold) for fold in folds):
        raise ValueError(
            f'split file {path} has another form than expected: {{"training": [names], "validation": [names]}}, or a '
            "list of these, one for each fold; fix the file."
        )
    return [_read_fold(fold, cases, path if len(folds) == 1 else f"fold {n} of {path}") for n, fold in enumerate(folds)]


def _is_split(fold: Any) -> bool:
    return (
        isinstance(fold, dict)
        and {TRAINING, VALIDATION} <= {SPELLINGS.get(key, "") for key in fold}
        and all(key in SPELLINGS and isinstance(names, list) for key, names in fold.items())
    )


def _read_fold(fold: Mapping[str, Sequence[Any]], cases: Sequence[str], where: str) -> Split:
    pairs = [(case_name(str(name)), SPELLINGS[key]) for key, names in fold.items() for name in names]
    counts, chosen = Counter(name for name, _ in pairs), dict(pairs)
    unknown = [name for name in counts if name not in cases]
    twice = [name for name, count in counts.items() if count > 1]
    if unknown or twice:
        raise ValueError(
            f"{where} names cases that are not there: {listed(unknown) or 'none'}; and cases twice: "
            f"{listed(twice) or 'none'}. Each of {listed(cases)} can be listed once; fix the file."
        )
    if empty := sorted({TRAINING, VALIDATION} - set(chosen.values())):
        raise ValueError(f"{where} has no case for {' and '.join(empty)}; add some.")
    return chosen
