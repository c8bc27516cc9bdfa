"""Labels of a datalist: the maps of their values, and labels taken away on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.dataset.datalists import keep_labels_of
from scripts.dataset.label_values import organs_of_datalist, read_label_values, values_of


def test_several_values_may_be_one_organ_and_any_value_background() -> None:
    labels = {"0": "background", "1": "liver", "2, 3": "kidneys", "9": " Background", "8": "background"}
    found = read_label_values(labels, "datalist x")
    assert found.organs == {"liver": 1, "kidneys": [2, 3]}
    assert found.known == [0, 1, 2, 3, 8, 9]
    assert [values_of(value) for value in found.organs.values()] == [[1], [2, 3]]
    assert read_label_values({"0": "Background", "1": "liver"}, "datalist x").organs == {"liver": 1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "datalist x has no 'labels'.*add it"),
        ({}, "datalist x has no 'labels'"),
        ({"liver": 1}, "the pair 'liver': 1, expected the value"),
        ({"1,": "liver"}, "the pair '1,': 'liver'"),
        ({"1": "liver", "2": "liver"}, "names 'liver' twice: rename one, or join them as '1,2'"),
        ({"1": "liver", "2": "Liver "}, "names 'Liver ' twice"),
        ({"1": "$liver"}, r"the pair '1': '\$liver', expected"),
        ({"1": "liver\nspleen"}, "expected the value"),
        ({"1": "liver", "1,2": "spleen"}, "declares the value 1 twice"),
        ({"0": "liver", "1": "spleen"}, "names 0 'liver', and 0 is background.*give it its own value"),
        ({"0,1": "liver"}, "names 0 'liver'"),
    ],
)
def test_a_broken_map_is_refused_with_its_remedy(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_label_values(labels, "datalist x")


def test_the_organs_of_a_datalist_are_those_of_all_its_entries() -> None:
    content = {
        "labels": {"1": "liver", "9": "background"},
        "training": ["a.nii", {"image": "b.nii", "labels": {"1": "spleen", "2": "liver"}}],
        "test": [{"image": "c.nii", "labels": {"1": "aorta"}}],
    }
    assert organs_of_datalist(content, "x") == ["liver", "spleen", "aorta"]


ORGANS = ["common", "rare"]


def cases_of(count: int, rare: int = 1, unlabelled: int = 2) -> list[dict[str, Any]]:
    """Cases that are all contoured for the common organ, the last few of them for the rare one too."""
    labelled = [
        {
            "case": f"x{n}",
            "image": f"x{n}",
            "label": f"y{n}",
            "annotated": ORGANS if n >= count - rare else ORGANS[:1],
        }
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
