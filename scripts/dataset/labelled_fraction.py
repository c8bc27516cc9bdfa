"""Fewer labels on purpose: experiments in which a share of the training cases is labelled and the rest is not."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)


def keep_labels_of(
    cases: Sequence[Mapping[str, Any]], fraction: float, organs: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """Take the labels of all but a share of the labelled cases away.

    The choice is random, but begins with one case for each organ that was contoured at all, so that a small share still
    trains every organ. A smaller share of the same seed is part of a larger one.

    Args:
        cases: cases as ``scripts.dataset.datalists.load_cases`` returns them.
        fraction: share of the labelled cases that keep their label, in (0, 1]; rounded, at least one case.
        organs: organs of the config.
        seed: seed of the choice; the same seed keeps the same labels.

    Returns:
        All cases in the same order; those that lost their label look like unlabelled ones.

    Raises:
        ValueError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"labelled_fraction is {fraction}, expected a share above 0 and up to 1, such as 0.1.")
    labelled = [number for number, case in enumerate(cases) if case.get("label")]
    kept = set(_in_order_of_choice(cases, labelled, organs, seed)[: max(1, round(fraction * len(labelled)))])
    logger.info("labelled_fraction %g: %d of %d labelled cases keep their label.", fraction, len(kept), len(labelled))
    return [dict(case) if number in kept else _unlabelled(case) for number, case in enumerate(cases)]


def _in_order_of_choice(
    cases: Sequence[Mapping[str, Any]], labelled: Sequence[int], organs: Sequence[str], seed: int
) -> list[int]:
    """Numbers of the labelled cases at random, those that are needed to cover every organ first."""
    order = sorted(labelled)
    random.Random(seed).shuffle(order)
    rarest_first = sorted(organs, key=lambda organ: sum(organ in cases[number]["annotated"] for number in order))
    first: list[int] = []
    for organ in rarest_first:
        with_organ = [number for number in order if organ in cases[number]["annotated"]]
        if with_organ and not set(with_organ) & set(first):
            first.append(with_organ[0])
    return first + [number for number in order if number not in first]


def _unlabelled(case: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in case.items() if key != "label"}, "annotated": []}
