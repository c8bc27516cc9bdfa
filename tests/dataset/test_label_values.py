"""The maps of label values that a datalist may hold."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.dataset.label_values import organs_of_datalist, read_label_values, values_of


def test_several_values_may_be_one_organ_and_any_value_background() -> None:
    labels = {"0": "background", "1": "liver", "2, 3": "kidneys", "9": "background", "8": "background"}
    found = read_label_values(labels, "datalist x")
    assert found.organs == {"liver": 1, "kidneys": [2, 3]}
    assert found.known == [0, 1, 2, 3, 8, 9]
    assert [values_of(value) for value in found.organs.values()] == [[1], [2, 3]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "datalist x has no 'labels'.*add it"),
        ({}, "datalist x has no 'labels'"),
        ({"liver": 1}, "the pair 'liver': 1, expected the value"),
        ({"1,": "liver"}, "the pair '1,': 'liver'"),
        ({"1": "liver", "2": "liver"}, 'names \'liver\' twice.*join the values.*"1,2": "liver"'),
        ({"1": "liver", "1,2": "spleen"}, "declares the value 1 twice"),
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
