"""Labels of cases: the maps of their values, labels taken away on purpose, and those that a client hands over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.dataset.client_cases import DATASTORE, LabelledScans, complete_cases, noted_segments
from scripts.dataset.datalists import keep_labels_of
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


COUNTED = ["common", "rare"]


def cases_of(count: int, rare: int = 1, unlabelled: int = 2) -> list[dict[str, Any]]:
    """Cases that are all contoured for the common organ, the last few of them for the rare one too."""
    labelled = [
        {
            "case": f"x{n}",
            "image": f"x{n}",
            "label": f"y{n}",
            "annotated": COUNTED if n >= count - rare else COUNTED[:1],
        }
        for n in range(count)
    ]
    return labelled + [{"case": f"u{n}", "image": f"u{n}", "annotated": []} for n in range(unlabelled)]


def names(cases: list[dict[str, Any]]) -> set[str]:
    return {case["case"] for case in cases if "label" in case}


@given(count=st.integers(1, 40), fraction=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_the_share_of_the_labelled_cases_is_kept_and_no_case_is_lost(count: int, fraction: float, seed: int) -> None:
    cases = cases_of(count)
    kept = keep_labels_of(cases, fraction, COUNTED, seed)
    assert len(names(kept)) == max(1, round(fraction * count))
    assert [case["case"] for case in kept] == [case["case"] for case in cases]
    assert kept == keep_labels_of(cases, fraction, COUNTED, seed)


@given(small=st.floats(0.05, 0.5), large=st.floats(0.5, 1.0), seed=st.integers(0, 99))
def test_a_smaller_share_is_part_of_a_larger_one(small: float, large: float, seed: int) -> None:
    cases = cases_of(20)
    assert names(keep_labels_of(cases, small, COUNTED, seed)) <= names(keep_labels_of(cases, large, COUNTED, seed))


@given(seed=st.integers(0, 99))
def test_every_organ_that_was_contoured_is_still_there_in_a_small_share(seed: int) -> None:
    kept = keep_labels_of(cases_of(20, rare=1), 0.1, COUNTED, seed)
    assert {organ for case in kept for organ in case["annotated"]} == set(COUNTED)


def test_another_seed_chooses_others() -> None:
    assert len({frozenset(names(keep_labels_of(cases_of(20), 0.5, COUNTED, seed))) for seed in range(10)}) > 5


def test_a_case_that_lost_its_label_looks_like_an_unlabelled_one() -> None:
    lost = [case for case in keep_labels_of(cases_of(4, unlabelled=0), 0.5, COUNTED, 0) if "label" not in case]
    assert len(lost) == 2 and all(case["annotated"] == [] for case in lost)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected a share above 0 and up to 1"):
        keep_labels_of(cases_of(4), fraction, COUNTED)


ORGANS = ["spleen", "Liver", "aorta"]


def study(folder: Path, segments: list[dict[str, Any]] | None = None, name: str = "x") -> dict[str, str]:
    """A case in the layout of MONAI Label's datastore, with the segments that it noted."""
    path = folder / DATASTORE
    content = json.loads(path.read_text()) if path.exists() else {"name": "new-dataset", "objects": {}}
    info = {"ts": 1, "name": f"{name}.nii.gz", **({} if segments is None else {"label_info": segments})}
    labels = {
        "original": {"ext": ".nii.gz", "info": {"name": f"{name}.nii.gz"}},
        "final": {"ext": ".nii.gz", "info": info},
    }
    content["objects"][name] = {"image": {"ext": ".nii.gz", "info": {}}, "labels": labels}
    path.write_text(json.dumps(content))
    return {"image": str(folder / f"{name}.nii.gz"), "label": str(folder / f"labels/final/{name}.nii.gz")}


def test_the_names_of_the_segments_say_which_value_is_which_organ(tmp_path: Path) -> None:
    study(tmp_path, [{"name": "aorta", "idx": 1}], name="y")
    case = study(tmp_path, [{"name": "liver", "idx": 1}, {"name": "Spleen", "idx": 2}, {"name": "cyst", "idx": 3}])
    assert complete_cases([case], ORGANS) == [
        {
            **case,
            "case": "x",
            "phase": None,
            "annotated": ["spleen", "Liver"],
            "label_values": {"spleen": 2, "Liver": 1},
            "known_values": [0, 1, 2, 3],
        }
    ]


@pytest.mark.parametrize("segments", [None, []])
def test_without_names_the_values_are_class_indices(segments: list[Any] | None, tmp_path: Path) -> None:
    completed = complete_cases([study(tmp_path, segments)], ORGANS)[0]
    assert completed["label_values"] == {"spleen": 1, "Liver": 2, "aorta": 3}
    assert completed["annotated"] == ORGANS
    assert completed["known_values"] == [0, 1, 2, 3]


def test_a_label_outside_of_a_datastore_has_no_names(tmp_path: Path) -> None:
    assert noted_segments(str(tmp_path / "a/b/c.nii.gz")) == {}


def test_segments_of_other_names_only_are_refused(tmp_path: Path) -> None:
    case = study(tmp_path, [{"name": "Segment_1", "idx": 1}])
    with pytest.raises(
        ValueError, match="has the segments segment_1, and the bundle's organs are spleen, Liver, aorta"
    ):
        complete_cases([case], ORGANS)


def test_cases_of_a_datalist_stay_as_they_are(tmp_path: Path) -> None:
    case = {"case": "z", **study(tmp_path, [{"name": "liver", "idx": 7}]), "label_values": {"spleen": 4}}
    assert LabelledScans([case], ORGANS)[0] == case
