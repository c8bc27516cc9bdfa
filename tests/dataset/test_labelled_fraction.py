"""Labels taken away on purpose: how many, which, and that nothing of them is left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.dataset.datalists import keep_labels_of

ORGANS = ["common", "rare"]


def cases_of(count: int, rare: int = 1, unlabelled: int = 2) -> list[dict[str, Any]]:
    """Cases that are all contoured for the common organ, the last few of them for the rare one too."""
    labelled = [
        {"case": f"x{n}", "image": f"x{n}", "label": f"y{n}", "annotated": ORGANS if n >= count - rare else ORGANS[:1]}
        for n in range(count)
    ]
    return labelled + [{"case": f"u{n}", "image": f"u{n}", "annotated": []} for n in range(unlabelled)]


def names(cases: list[dict[str, Any]]) -> set[str]:
    return {case["case"] for case in cases if "label" in case}


@given(count=st.integers(1, 40), fraction=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_the_share_of_the_labelled_cases_is_kept_and_no_case_is_lost(count: int, fraction: float, seed: int) -> None:
    cases = cases_of(count)
    kept = keep_labels_of(cases, fraction, ORGANS, seed)
    assert len(names(kept)) == max(1, round(fraction * count))
    assert [case["case"] for case in kept] == [case["case"] for case in cases]
    assert kept == keep_labels_of(cases, fraction, ORGANS, seed)


@given(small=st.floats(0.05, 0.5), large=st.floats(0.5, 1.0), seed=st.integers(0, 99))
def test_a_smaller_share_is_part_of_a_larger_one(small: float, large: float, seed: int) -> None:
    cases = cases_of(20)
    assert names(keep_labels_of(cases, small, ORGANS, seed)) <= names(keep_labels_of(cases, large, ORGANS, seed))


@given(seed=st.integers(0, 99))
def test_every_organ_that_was_contoured_is_still_there_in_a_small_share(seed: int) -> None:
    kept = keep_labels_of(cases_of(20, rare=1), 0.1, ORGANS, seed)
    assert {organ for case in kept for organ in case["annotated"]} == set(ORGANS)


def test_another_seed_chooses_others() -> None:
    assert len({frozenset(names(keep_labels_of(cases_of(20), 0.5, ORGANS, seed))) for seed in range(10)}) > 5


def test_a_case_that_lost_its_label_looks_like_an_unlabelled_one() -> None:
    lost = [case for case in keep_labels_of(cases_of(4, unlabelled=0), 0.5, ORGANS, 0) if "label" not in case]
    assert len(lost) == 2 and all(case["annotated"] == [] for case in lost)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected a share above 0 and up to 1"):
        keep_labels_of(cases_of(4), fraction, ORGANS)
