"""What a datalist on disk turns into, and what a user who got it wrong is told."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.dataset.datalist_file import case_name
from scripts.dataset.datalists import load_cases
from scripts.dataset.inference_inputs import scan_inputs

LABELS = {"0": "background", "1": "spleen", "2": "liver", "3": "right_kidney"}


def write_datalist(folder: Path, **splits: Any) -> str:
    """Write dataset.json with three organs and return the folder."""
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS, **splits}))
    return str(folder)


def test_a_case_has_absolute_paths_and_the_values_of_the_organs_of_the_config(tmp_path: Path) -> None:
    entry = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "annotated": ["spleen", "right_kidney"]}
    cases = load_cases(write_datalist(tmp_path, training=[entry]), "training", ["liver", "spleen"])
    assert cases == [
        {
            "case": "a",
            "image": str(tmp_path / "images" / "a.nii.gz"),
            "label": str(tmp_path / "labels" / "a.nii.gz"),
            "annotated": ["spleen"],
            "phase": None,
            "label_values": {"liver": 2, "spleen": 1},
            "known_values": [0, 1, 2, 3],
        }
    ]


def test_a_label_without_annotated_is_contoured_for_every_organ_and_a_scan_without_label_for_none(
    tmp_path: Path,
) -> None:
    entries = [{"image": "a.nii", "label": "la.nii", "phase": "non_contrast"}, {"image": "b.nii"}, "c.nii"]
    labelled, unlabelled, bare = load_cases(write_datalist(tmp_path, test=entries), "test", ["spleen", "liver"])
    assert labelled["annotated"] == ["spleen", "liver"]
    assert labelled["phase"] == "non_contrast"
    assert unlabelled["annotated"] == [] and "label" not in unlabelled
    assert bare["case"] == "c" and "label" not in bare


def test_an_entry_with_labels_of_its_own_is_read_by_these(tmp_path: Path) -> None:
    own = {"image": "b.nii", "label": "lb.nii", "labels": {"4,5": "liver", "6": "background", "7": "aorta"}}
    folder = write_datalist(tmp_path, training=[{"image": "a.nii", "label": "la.nii"}, own])
    shared, differing = load_cases(folder, "training", ["spleen", "liver", "aorta"])
    assert shared["label_values"] == {"spleen": 1, "liver": 2} and shared["known_values"] == [0, 1, 2, 3]
    assert differing["label_values"] == {"liver": [4, 5], "aorta": 7} and differing["known_values"] == [0, 4, 5, 6, 7]
    # What a cohort has no value for was not contoured in it.
    assert shared["annotated"] == ["spleen", "liver"]
    assert differing["annotated"] == ["liver", "aorta"]


def test_annotated_of_an_entry_with_labels_of_its_own_names_only_these(tmp_path: Path) -> None:
    entry = {"image": "b.nii", "label": "lb.nii", "labels": {"4": "liver"}, "annotated": ["spleen"]}
    with pytest.raises(ValueError, match="'annotated' of b.nii names 'spleen', which 'labels' does not know"):
        load_cases(write_datalist(tmp_path, training=[entry]), "training", ["liver"])


def test_an_entry_may_name_its_patient_and_its_case(tmp_path: Path) -> None:
    entries = [{"image": "a/ct.nii", "case": "anna", "patient": "p1"}, {"image": "b/ct.nii"}]
    folder = write_datalist(tmp_path, training=entries)
    named, plain = load_cases(folder, "training", ["liver"])
    assert (named["case"], named["patient"]) == ("anna", "p1")
    assert plain["case"] == "ct" and "patient" not in plain
    assert [scan["case"] for scan in scan_inputs(folder)] == ["anna", "ct"]


def test_a_path_that_leads_upwards_from_a_linked_folder_is_followed_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "disk/mine").mkdir(parents=True)
    folder = write_datalist(tmp_path / "disk/mine", training=["../scans/a.nii"])
    (tmp_path / "link").symlink_to(folder)
    (case,) = load_cases(str(tmp_path / "link"), "training", ["liver"])
    assert case["image"] == str((tmp_path / "disk/scans/a.nii").resolve())


def test_a_datalist_elsewhere_still_lists_paths_relative_to_the_dataset_folder(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "data").mkdir()
    write_datalist(tmp_path / "lists", training=[{"image": "a.nii"}])
    cases = load_cases(str(tmp_path / "data"), "training", ["liver"], str(tmp_path / "lists" / "dataset.json"))
    assert cases[0]["image"] == str(tmp_path / "data" / "a.nii")


@pytest.mark.parametrize("split", ["validation", "test", "testing"])
def test_whoever_trains_is_not_scored(split: str, tmp_path: Path) -> None:
    # Of the validation a training checks the first cases only; a test split it does not see.
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "b.nii.gz")
    trained = [{"image": "a.nii.gz", "patient": "anna"}, {"image": "b.nii.gz"}]
    others = [{"image": f"{number}.nii.gz"} for number in range(9)]
    for scored, found in (
        ({"image": "c.nii.gz", "patient": "anna"}, "one patient in several splits .*\n  - anna"),
        ({"image": "link.nii.gz"}, "one scan listed as several cases .*\n  - .*b.nii.gz"),
    ):
        folder = write_datalist(tmp_path, training=trained, **{split: [*others, scored]})
        for loaded in ("training", split)[split == "testing" :]:  # a training knows the names of three splits
            with pytest.raises(ValueError, match=f"{found}: in training and {split}"):
                load_cases(folder, loaded, ["spleen"], limit=1, labelled=True)
    load_cases(write_datalist(tmp_path, training=trained, trainval=trained), "training", ["spleen"])


def test_limit_keeps_the_first_cases(tmp_path: Path) -> None:
    folder = write_datalist(tmp_path, training=["a.nii", "b.nii", "c.nii"])
    assert [case["case"] for case in load_cases(folder, "training", ["liver"], limit=2)] == ["a", "b"]
    with pytest.raises(ValueError, match="limit is 0, expected at least 1"):
        load_cases(folder, "training", ["liver"], limit=0)


def test_scans_without_label_are_left_out_where_cases_are_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [{"image": "a.nii"}, {"image": "b.nii", "label": "lb.nii"}, {"image": "c.nii", "label": "lc.nii"}]
    folder = write_datalist(tmp_path, validation=entries, test=entries[:1])
    with caplog.at_level(logging.INFO):
        cases = load_cases(folder, "validation", ["spleen"], limit=1, labelled=True)
    assert [case["case"] for case in cases] == ["b"]
    assert "1 scans of split 'validation' have no label" in caplog.text
    with pytest.raises(ValueError, match="has no labelled case"):
        load_cases(folder, "test", ["spleen"], labelled=True)


def test_a_label_without_an_organ_of_the_config_cannot_be_scored_either(tmp_path: Path) -> None:
    # An evaluation of nothing but such cases would segment them all, and then have no score to write.
    liver = {"image": "a.nii", "label": "la.nii", "annotated": ["liver"]}
    folder = write_datalist(tmp_path, validation=[liver], test=[liver, {"image": "b.nii", "label": "lb.nii"}])
    assert [case["case"] for case in load_cases(folder, "test", ["spleen"], labelled=True)] == ["b"]
    with pytest.raises(ValueError, match="no labelled case, expected one that is contoured for an organ of the config"):
        load_cases(folder, "validation", ["spleen"], labelled=True)


def test_organs_that_the_config_does_not_list_are_mentioned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_datalist(tmp_path, training=["a.nii"], validation=["b.nii"])
    with caplog.at_level(logging.INFO):
        load_cases(folder, "training", ["liver"])
        load_cases(folder, "validation", ["liver"])
    assert [record.message.split(" become background: ")[1] for record in caplog.records] == ["right_kidney, spleen."]


def test_a_missing_folder_or_datalist_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'.*nowhere' is not a folder.*set dataset_dir"):
        load_cases(str(tmp_path / "nowhere"), "training", ["liver"])
    (tmp_path / "list.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"dataset.json does not exist; JSON files in that folder: list.json"):
        load_cases(str(tmp_path), "training", ["liver"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"labels": {"1": "liver"}, "training": [', "dataset.json is not valid JSON .*line 1"),
        ('{"labels": {"1": "liver", "1": "spleen"}}', r"the key '1' stands there twice\); fix the file"),
        ('[{"image": "a.nii"}]', "holds a JSON list, expected an object.*put the list under a key"),
        ('{"training": ["a.nii"]}', "has no 'labels'.*add it"),
        ('{"labels": {"liver": 1}, "training": ["a.nii"]}', "the pair 'liver': 1, expected the value"),
        ('{"labels": {"1": "liver", "2": "liver"}, "training": ["a.nii"]}', "names 'liver' twice"),
        ('{"labels": {"1": "liver"}, "training": []}', "split 'training' of .* is an empty list.*add some"),
        (
            '{"labels": {"1": "liver"}, "train": ["a.nii"], "test": []}',
            "no split 'training'; it has: train, test. Choose",
        ),
        (
            '{"labels": {"1": "liver"}, "training": ["x/a.nii", "y/a.nii.gz"]}',
            "'a': .*x/a.nii and .*y/a.nii.gz. Rename",
        ),
    ],
)
def test_a_broken_datalist_is_refused_with_its_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_cases(str(tmp_path), "training", ["liver"])


def test_an_unknown_organ_is_answered_with_the_closest_one_and_the_list_of_all(tmp_path: Path) -> None:
    folder = write_datalist(tmp_path, training=["a.nii"])
    with pytest.raises(ValueError) as caught:
        load_cases(folder, "training", ["liver", "Right kidney", "tail"])
    assert "'Right kidney' (did you mean 'right_kidney'?); 'tail'. " in str(caught.value)
    assert "The dataset's organs are: spleen, liver, right_kidney." in str(caught.value)


@pytest.mark.parametrize("organs", [[], ["liver", "liver"]])
def test_the_config_lists_each_organ_once(tmp_path: Path, organs: list[str]) -> None:
    with pytest.raises(ValueError, match="expected one name or more, each once"):
        load_cases(write_datalist(tmp_path, training=["a.nii"]), "training", organs)


def test_all_broken_entries_are_reported_together(tmp_path: Path) -> None:
    entries = [
        {"label": "la.nii"},
        {"image": "b.nii", "annotated": ["liver"]},
        {"image": "c.nii", "label": "lc.nii", "annotated": ["livr"]},
        {"image": "d.nii", "label": "ld.nii", "annotated": "liver"},
        {"image": "e.nii", "label": 3},
        {"image": "f.nii", "phase": 1},
        {"image": "fine.nii"},
    ]
    with pytest.raises(ValueError) as caught:
        load_cases(write_datalist(tmp_path, training=entries), "training", ["liver"])
    message = str(caught.value)
    assert 'entry 1: {"label": "la.nii"} has no \'image\'; add the path' in message
    assert "entry 2: b.nii has 'annotated' organs but no 'label'" in message
    assert "entry 3: 'annotated' of c.nii names 'livr' (did you mean 'liver'?)" in message
    assert "entry 4: 'annotated' of d.nii is 'liver'; expected a list" in message
    assert "entry 5: 'label' of e.nii is 3; expected a path" in message
    assert "entry 6: 'phase' of f.nii is 1; expected a name" in message
    assert "entry 7" not in message


def test_a_long_list_of_broken_entries_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"entry 10: .*\n  \.\.\. and 3 more$"):
        load_cases(write_datalist(tmp_path, training=[{}] * 13), "training", ["liver"])


@given(stem=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,10}[A-Za-z0-9_]", fullmatch=True))
def test_a_case_is_named_after_its_file_whatever_the_format(stem: str) -> None:
    names = {case_name(f"/data/{stem}{suffix}") for suffix in (".nii", ".nii.gz", ".NII.GZ", ".mha")}
    assert names == {stem}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    organs=st.permutations(["spleen", "liver", "right_kidney"]),
    count=st.integers(1, 3),
    annotated=st.lists(st.sampled_from(["spleen", "liver", "right_kidney"]), unique=True),
)
def test_annotated_keeps_the_order_of_the_config_and_nothing_that_it_does_not_list(
    tmp_path: Path, organs: list[str], count: int, annotated: list[str]
) -> None:
    entry = {"image": "a.nii", "label": "la.nii", "annotated": annotated}
    case = load_cases(write_datalist(tmp_path, training=[entry]), "training", organs[:count])[0]
    assert case["annotated"] == [organ for organ in organs[:count] if organ in annotated]
    assert list(case["label_values"]) == organs[:count]


def test_a_file_is_one_scan_and_a_folder_all_of_its_volumes_sorted(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", "._a.nii", "notes.txt"):
        (tmp_path / name).touch()
    one, two = {"case": "a", "image": str(tmp_path / "a.nii")}, {"case": "b", "image": str(tmp_path / "b.nii.gz")}
    assert scan_inputs(str(tmp_path)) == [one, two]
    assert scan_inputs(str(tmp_path / "b.nii.gz")) == [two]
    for path in (tmp_path, tmp_path / "b.nii.gz"):
        with pytest.raises(ValueError, match="series '1' is asked for, and input '.*' has no DICOM series: leave"):
            scan_inputs(str(path), 1)


def test_a_datalist_gives_its_test_split_or_else_everything(tmp_path: Path) -> None:
    path = str(tmp_path / "dataset.json")
    write_datalist(tmp_path, training=["a.nii"], test=["c.nii"])
    assert scan_inputs(path) == [{"case": "c", "image": str(tmp_path / "c.nii")}]
    write_datalist(tmp_path, training=[{"image": "a.nii", "label": "l.nii"}], validation=["b.nii"], test=[])
    assert [scan["case"] for scan in scan_inputs(path)] == ["a", "b"]


def test_an_input_without_scans_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'.*nowhere' does not exist; expected a volume"):
        scan_inputs(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="it is empty"):
        scan_inputs(str(tmp_path))
    (tmp_path / "patient_1").mkdir()
    with pytest.raises(FileNotFoundError, match=r"subfolders are searched for DICOM only; .*\(patient_1\)"):
        scan_inputs(str(tmp_path))
    (tmp_path / "notes.txt").write_text("no scan")
    with pytest.raises(ValueError, match="notes.txt' is not a kind of file that is read"):
        scan_inputs(str(tmp_path / "notes.txt"))
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    with pytest.raises(FileNotFoundError, match="lists no scan in any split"):
        scan_inputs(str(tmp_path / "dataset.json"))
    write_datalist(tmp_path, test=[{"label": "a.nii"}])
    with pytest.raises(ValueError, match="entries without 'image'"):
        scan_inputs(str(tmp_path / "dataset.json"))


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(ValueError, match="'a': .*a.nii and .*a.nii.gz. Rename"):
        scan_inputs(str(tmp_path))


def write_dicom_series(folder: Path, series: str, slices: int) -> None:
    """Write axial 8 x 8 slices, 3 mm apart, without file extension as scanners export them."""
    folder.mkdir(exist_ok=True)
    for index in range(slices):
        image = itk.image_from_array(np.full((1, 8, 8), -1000, np.int16))
        image.SetOrigin([0.0, 0.0, 3.0 * index])
        tags = {"0020|000d": "1.2.3", "0020|000e": series, "0008|0018": f"{series}.{index + 1}", "0008|0060": "CT"}
        for tag, value in {**tags, "0020|0032": f"0\\0\\{3 * index}"}.items():
            image.GetMetaDataDictionary()[tag] = value
        encoder = itk.GDCMImageIO.New()
        encoder.SetKeepOriginalUID(True)
        itk.imwrite(image, str(folder / f"{series}_{index}.dcm"), imageio=encoder)
        (folder / f"{series}_{index}.dcm").rename(folder / f"{series}_{index}")


def test_a_picture_above_a_dicom_series_is_a_preview(tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "preview.jpg").touch()
    write_dicom_series(tmp_path / "p1" / "CT", "1.2.3.4", slices=3)
    (scan,) = scan_inputs(str(tmp_path / "p1"))
    assert scan["case"] == "p1" and len(list(Path(scan["image"]).iterdir())) == 3


def test_a_dicom_folder_is_one_scan_and_several_series_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "patient_7"
    write_dicom_series(folder, "1.2.3.4", slices=3)
    assert scan_inputs(str(folder)) == [{"case": "patient_7", "image": str(folder)}]
    write_dicom_series(folder, "1.2.3.5", slices=2)
    with pytest.raises(ValueError, match=r"(?s)2 CT series.*3 files, UID 1\.2\.3\.4.*2 files, UID 1\.2\.3\.5"):
        scan_inputs(str(folder))
    (chosen,) = scan_inputs(str(folder), series="1.2.3.5")
    assert chosen["case"] == "patient_7" and len(list(Path(chosen["image"]).iterdir())) == 2


def excluding(tmp_path: Path, table: str, split: str = "training") -> list[dict[str, Any]]:
    """Load a split of three organs without the contours that a table marks."""
    training = [{"image": "a.nii", "label": "la.nii"}, {"image": "b.nii", "label": "lb.nii", "annotated": ["liver"]}]
    folder = write_datalist(
        tmp_path, training=training, validation=[{"image": "c.nii", "label": "lc.nii"}], test=["d.nii"]
    )
    (tmp_path / "doubts.csv").write_text(table)
    return load_cases(folder, split, ["spleen", "liver"], exclude=str(tmp_path / "doubts.csv"))


def test_an_excluded_organ_is_not_contoured_in_its_case_and_only_there(tmp_path: Path) -> None:
    rows = "exclude,split,case,organ\nyes,training,a,liver\n,training,a,spleen\nX,validation,c,right_kidney\n"
    a, b = excluding(tmp_path, rows)
    assert (a["annotated"], b["annotated"]) == (["spleen"], ["liver"]), "unknown, not absent"
    assert a["label"].endswith("la.nii") and a["label_values"] == {"spleen": 1, "liver": 2}


def test_a_case_without_any_contour_that_counts_is_unlabelled(tmp_path: Path) -> None:
    a, b = excluding(tmp_path, "exclude,case,organ\n1,b,liver\n")
    assert a["annotated"] == ["spleen", "liver"]
    assert b["annotated"] == [] and "label" not in b


def test_all_wrong_rows_of_a_table_of_exclusions_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows to fix") as caught:
        excluding(tmp_path, "exclude,case,organ\nyes,z,liver\nyes,a,lever\nmaybe,a,liver\nno,y,liver\n")
    assert str(caught.value).splitlines()[1:] == [
        "  row 2: no case 'z'",
        "  row 3: no organ 'lever'",
        "  row 4: exclude is 'maybe', expected yes or nothing",
    ]
    with pytest.raises(ValueError, match="has no column exclude"):
        excluding(tmp_path, "case,organ\na,liver\n")
    (tmp_path / "latin.csv").write_bytes("exclude,case,organ\nyes,M\xfcller,liver\n".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.csv cannot be read .*: save it as CSV in UTF-8"):
        load_cases(str(tmp_path), "training", ["liver"], exclude=str(tmp_path / "latin.csv"))
    with pytest.raises(FileNotFoundError, match="exclude names nowhere.csv"):
        load_cases(str(tmp_path), "training", ["liver"], exclude="nowhere.csv")
