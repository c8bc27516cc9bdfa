"""DICOM folders with RTSTRUCT or DICOM-SEG as labels: a data set in one command, or a refusal with nothing left."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from config_compositions import ROOT
from ct_series import AXIAL, LPS, write_ct_series
from doc_pages import shell_lines
from pydicom.uid import RTPlanStorage
from structure_sets import SHAPE, Drawn, circle, dice, label_map, turned, write_contours, write_series

from scripts.dataset.datalists import load_cases
from scripts.outputs.dicom_segmentation import write_segmentation
from scripts.outputs.structure_set import write_structure_set
from scripts.prepare.own import main
from scripts.prepare.structure_labels import read_spellings

OPENKBP = Path(os.environ.get("AGSCL_OPENKBP", ROOT / "data/openkbp"))
NAMES = ["cord=SpinalCord,Spinal*,Myelon", "parotid=Parotis links,par*_l"]
PLAIN = "CLOSED_PLANAR"
SPLIT = ["--validation", "0.34"]


def tube(column: float, row: float, radius: float, slices: range = range(5, 15)) -> Drawn:
    """The same circle on several slices, around a voxel."""
    return [(PLAIN, circle(radius, (LPS @ AXIAL @ [column, row, k, 1])[:3])) for k in slices]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Three patients as a planning system exports them, each with names of its own for the structures."""
    rois: dict[str, dict[str, Drawn]] = {
        "anna": {"SpinalCord": tube(20, 20, 12), "Par_L": tube(40, 20, 15), "[PTV] 70": tube(30, 20, 30)},
        "ben": {"MYELON": tube(20, 20, 14), "par_l": tube(40, 20, 15), "BODY": tube(30, 20, 60)},
        "cleo": {"spinal cord": tube(20, 20, 16), "Parotis links": [], "BODY": tube(30, 20, 60)},
    }
    for number, (name, drawn) in enumerate(rois.items()):
        series = write_series(tmp_path / "export" / name, series=f"1.2.3.{number}", PatientID=name)
        write_contours(series / f"RS.{name}.dcm", series, drawn)
    return tmp_path / "export"


def prepare(export: Path, *arguments: str, names: list[str] = NAMES) -> Path:
    """Run the command into a folder that is not there yet."""
    out = next(path for number in count() if not (path := export.parent / f"out{number}").exists())
    options = ["--images", str(export), "--structures", *names, "--output_dir", str(out), *SPLIT, *arguments]
    assert main(options) == 0
    return out


def cases_of(out: Path, organs: list[str]) -> dict[str, Any]:
    return {case["case"]: case for split in ("training", "validation") for case in load_cases(str(out), split, organs)}


def voxels(case: Any) -> Any:
    image: Any = nib.load(case["label"])
    return np.asarray(image.dataobj)


def test_structures_become_label_maps_and_what_has_no_name_is_listed(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cases = cases_of(prepare(export), ["cord", "parotid"])
    assert {name: case["annotated"] for name, case in cases.items()} == {
        "anna": ["cord", "parotid"],
        "ben": ["cord", "parotid"],
        "cleo": ["cord"],
    }
    assert {case["patient"] for case in cases.values()} == {"anna", "ben", "cleo"}
    for name, radius in (("anna", 12), ("ben", 14), ("cleo", 16)):
        cord = voxels(cases[name]) == 1
        assert list(np.flatnonzero(cord.any(axis=(0, 1)))) == list(range(5, 15))
        assert cord.sum() * 6 / 10 == pytest.approx(np.pi * radius**2, rel=0.08)
    assert "structures that --structures does not name (scans): BODY (2), [PTV] 70 (1)" in caplog.text
    assert "cleo: 'Parotis links' is empty; parotid is unknown there." in caplog.text


def test_structures_may_lie_apart_and_be_named_in_a_file_and_in_a_table(export: Path) -> None:
    apart = export.parent / "plans"
    apart.mkdir()
    rows = ["image,label,organs"]
    for path in sorted(export.glob("*/RS*")):
        moved = path.rename(apart / path.name)
        rows.append(f"export/{path.parent.name},plans/{moved.name},cord")
    (export.parent / "names.json").write_text(json.dumps({"cord": ["Spinal*", "Myelon"]}))
    names = [str(export.parent / "names.json")]
    assert cases_of(prepare(export, "--labels", str(apart), names=names), ["cord"])["ben"]["annotated"] == ["cord"]
    (export.parent / "scans.csv").write_text("\n".join(rows))
    out = export.parent / "table"
    table = ["--table", str(export.parent / "scans.csv"), "--structures", NAMES[0], "--output_dir", str(out), *SPLIT]
    assert main(table) == 0
    assert cases_of(out, ["cord"])["anna"]["annotated"] == ["cord"]


def test_where_structures_overlap_the_one_named_later_is_seen(export: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = {}
    for names in (["ptv=[PTV] 70", *NAMES], [*NAMES, "ptv=[PTV] 70"]):
        anna = cases_of(prepare(export, names=names), ["ptv", "cord", "parotid"])["anna"]
        sizes[names[0]] = (voxels(anna) == anna["label_values"]["cord"]).sum()
    alone = (voxels(cases_of(prepare(export), ["cord"])["anna"]) == 1).sum()
    assert sizes["ptv=[PTV] 70"] == alone > sizes[NAMES[0]] > 0
    assert f"{(alone - sizes[NAMES[0]]) * 0.03:.2f} ml of cord lie in ptv and count for it" in caplog.text


def test_an_organ_that_others_cover_completely_is_unknown_and_not_absent(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cases = cases_of(prepare(export, names=[*NAMES, "body=BODY"]), ["cord", "parotid", "body"])
    assert {name: case["annotated"] for name, case in cases.items()} == {
        "anna": ["cord", "parotid"],
        "ben": ["body"],
        "cleo": ["body"],
    }
    assert "ml of cord lie in body and count for it, nothing is left: cord is unknown there." in caplog.text


def test_a_structure_may_have_the_number_0(export: Path) -> None:
    content = pydicom.dcmread(path := export / "anna" / "RS.anna.dcm")
    content.StructureSetROISequence[0].ROINumber = content.ROIContourSequence[0].ReferencedROINumber = 0
    content.save_as(path)
    assert cases_of(prepare(export), ["cord", "parotid"])["anna"]["annotated"] == ["cord", "parotid"]


def test_structures_in_another_frame_of_reference_than_their_series_are_warned_about(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(export)
    assert "another frame of reference" not in caplog.text
    for place in (export / "anna").iterdir():
        content = pydicom.dcmread(place)
        if content.Modality == "CT":
            content.FrameOfReferenceUID += ".9"
            content.save_as(place)
    prepare(export)
    assert f"anna: {export / 'anna' / 'RS.anna.dcm'} is drawn in another frame of reference, look at it." in caplog.text


def test_so_are_those_of_which_only_the_structure_says_that_it_was_drawn_on_other_images(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = pydicom.dcmread(path := export / "anna" / "RS.anna.dcm")
    content.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3.4"
    content.save_as(path)
    prepare(export)
    assert caplog.text.count("another frame of reference") == 1 and "anna: " in caplog.text


def test_an_empty_contour_is_nothing(export: Path) -> None:
    size = (voxels(cases_of(prepare(export), ["cord"])["anna"]) == 1).sum()
    content = pydicom.dcmread(path := export / "anna" / "RS.anna.dcm")
    empty = pydicom.Dataset()
    empty.ContourGeometricType, empty.NumberOfContourPoints, empty.ContourData = PLAIN, 0, None
    content.ROIContourSequence[0].ContourSequence.append(empty)
    content.save_as(path)
    assert (voxels(cases_of(prepare(export), ["cord"])["anna"]) == 1).sum() == size


def test_of_several_structure_sets_the_newest_is_taken_or_the_one_that_is_named(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ben = export / "ben"
    draft = {"StructureSetLabel": "Draft", "StructureSetDate": "20250101"}
    write_contours(ben / "RS.new.dcm", ben, {"Myelon": tube(20, 20, 6)}, **draft)
    sizes = [
        (voxels(cases_of(prepare(export, *options), ["cord", "parotid"])["ben"]) == 1).sum() * 6 / 10
        for options in ([], ["--structure_set", "plan*"])
    ]
    np.testing.assert_allclose(sizes, [np.pi * 6**2, np.pi * 14**2], rtol=0.2)
    assert caplog.text.count("ben has 2 structure files, only ") == 2 and "RS.new.dcm counts." in caplog.text


def test_plans_beside_a_series_are_passed_over_and_results_of_this_bundle_unless_they_are_given_as_labels(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ben = export / "ben"
    write_contours(ben / "RP.dcm", ben, {}, SOPClassUID=RTPlanStorage, Modality="RTPLAN")
    found = np.zeros(SHAPE, dtype=np.uint8)
    found[:5, :5, 3] = 1
    write_structure_set(found, AXIAL, str(ben), ["SpinalCord"], ben / "RS.archive.dcm")  # whatever they are called
    (ben / "RS.ben.dcm").rename(ben / "ben_rtstruct.dcm")
    sizes = [
        (voxels(cases_of(prepare(export, *options), ["cord", "parotid"])["ben"]) == 1).sum()
        for options in ([], ["--labels", str(export)])
    ]
    assert sizes[0] > 100 and sizes[1] == 25
    assert caplog.text.count("structure files that this bundle wrote do not count: 1") == 1


def test_a_dicom_seg_is_a_label_too(export: Path) -> None:
    for path in export.glob("*/RS*"):
        path.unlink()
        write_segmentation(label_map(), AXIAL, str(path.parent), ["shell", "tube", "region"], path)
    out = prepare(export, "--labels", str(export), names=["shell=SHELL", "tube=tube", "region=r*"])
    cases = cases_of(out, ["shell", "tube", "region"])
    np.testing.assert_array_equal(voxels(cases["anna"]), label_map())


REFUSED = {
    "two of the newest": (NAMES, "ben has 2 structure files, of which 2 are the newest: .*--structure_set LABEL"),
    "two that fit": (["cord=*"], r"'\*' fits 2 structures of .*RS.anna.dcm: .*Put the one that is meant first"),
    "two of one name": (["cord=cord*"], "fits 2 structures of .*RS.anna.dcm: Cord, CORD. Rename all but the one that"),
    "one for two": (["cord=spinal*,myelon", "back=spinal*"], "gives 'SpinalCord' of .* to cord and back; name it once"),
    "none": (["liver=Leber"], "no scan has a structure that --structures names"),
    "form": (["liver"], "--structures says once for each organ .* got liver"),
    "twice": (["cord=a", "cord=b"], "--structures says once for each organ"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_meant_otherwise_is_refused_and_nothing_is_left_behind(name: str, export: Path) -> None:
    names, message = REFUSED[name]
    if name == "two of the newest":
        write_contours(export / "ben" / "RS.copy.dcm", export / "ben", {"Myelon": tube(20, 20, 6)})
    if two := {"two that fit": "ab", "two of one name": ["Cord", "CORD"]}.get(name):
        (export / "anna" / "RS.anna.dcm").unlink()
        write_contours(
            export / "anna" / "RS.anna.dcm", export / "anna", {two[0]: tube(9, 9, 9), two[1]: tube(30, 20, 9)}
        )
    with pytest.raises(ValueError, match=message):
        prepare(export, names=names)
    assert not (export.parent / "out0").exists()
    (export.parent / "out0").mkdir()
    with pytest.raises(ValueError):
        main(["--images", str(export), "--structures", *names, "--output_dir", str(export.parent / "out0"), *SPLIT])
    assert not list((export.parent / "out0").iterdir())


def test_an_earlier_data_set_is_kept(export: Path) -> None:
    out = prepare(export)
    there = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="structure_labels is to be written and is a folder: remove it, or give"):
        main(["--images", str(export), "--structures", *NAMES, "--output_dir", str(out), *SPLIT])
    assert there == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_values_and_structures_exclude_one_another_and_places_have_to_exist(export: Path) -> None:
    with pytest.raises(ValueError, match="give --values for label maps or --structures for RTSTRUCT and DICOM-SEG"):
        prepare(export, "--values", "1=cord")
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist; give the folder of the structures"):
        prepare(export, "--labels", "nowhere")


def test_structures_of_a_series_that_is_not_there_are_named(export: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = write_series(export.parent / "mr", series="1.9.9")
    write_contours(export / "anna" / "RS.mr.dcm", other, {"SpinalCord": tube(9, 9, 9)})
    prepare(export)
    assert "1 structure files in" in caplog.text and "RS.mr.dcm" in caplog.text


def test_spellings_keep_their_order() -> None:
    assert read_spellings(["a=x, y", "b=z"]) == {"a": ["x", "y"], "b": ["z"]}


def test_a_name_in_a_file_of_spellings_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"liver": 5}')
    with pytest.raises(ValueError, match="names.json: liver has no list of names"):
        read_spellings([str(tmp_path / "names.json")])


def test_label_maps_by_way_of_rtstruct_are_the_same_on_an_oblique_grid(tmp_path: Path) -> None:
    organs, affine = ["shell", "tube", "region"], turned([10, 5, 90])
    for number in range(2):
        series = write_series(
            tmp_path / "export" / f"p{number}", affine, series=f"1.2.3.{number}", PatientID=f"{number}"
        )
        write_structure_set(label_map(), affine, str(series), organs, series / "rs.dcm")
    out = prepare(tmp_path / "export", "--labels", str(tmp_path / "export"), names=[f"{o}={o}" for o in organs])
    for case in cases_of(out, organs).values():
        np.testing.assert_array_equal(voxels(case), label_map())
        assert voxels(case).shape == SHAPE


@pytest.mark.skipif(not OPENKBP.is_dir(), reason="OpenKBP (data/openkbp, or AGSCL_OPENKBP) is not there")
def test_openkbp_by_way_of_rtstruct_has_the_same_label_maps(tmp_path: Path) -> None:
    content = json.loads((OPENKBP / "dataset.json").read_text())
    organs = [organ for value, organ in sorted(content["labels"].items()) if value != "0"]
    originals = {}
    for number, entry in enumerate(content["training"][:2] + content["validation"][:2]):
        wanted = nib.orientations.axcodes2ornt("LPS")
        turned_files = []
        for key in ("image", "label"):
            file: Any = nib.load(OPENKBP / entry[key])
            turned_files.append(
                file.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(file.affine), wanted))
            )
        scan, label = turned_files
        folder = tmp_path / "export" / f"p{number}"
        hu = np.asarray(scan.dataobj).astype("i2")
        write_ct_series(folder, hu, scan.affine, series=f"1.2.3.{number}", PatientID=f"p{number}")
        originals[f"p{number}"] = np.asarray(label.dataobj).astype("u1"), entry["annotated"]
        write_structure_set(originals[f"p{number}"][0], scan.affine, str(folder), organs, folder / "rs.dcm")
    names = [f"{organ}={organ.replace('_', ' ')}" for organ in organs]
    out = prepare(tmp_path / "export", "--labels", str(tmp_path / "export"), names=names)
    for name, case in cases_of(out, organs).items():
        labels, annotated = originals[name]
        assert case["annotated"] == annotated
        for value, organ in enumerate(organs, start=1):
            if organ in annotated:
                assert dice(voxels(case) == value, labels == value) >= 0.98


def test_the_command_of_the_how_to_names_the_structures_of_an_export(tmp_path: Path) -> None:
    (command,) = [
        words for words in shell_lines(ROOT / "docs/how_to/radiotherapy.md") if "scripts.prepare.own" in words
    ]
    for name, cord in (("a", "MYELON"), ("b", "spinalcord"), ("c", "SpinalCord")):
        series = write_series(tmp_path / "export" / name, series=f"1.2.{ord(name)}", PatientID=name)
        rois = {cord: tube(20, 20, 9), "Par_L": tube(40, 20, 9), "Mandibula": tube(20, 34, 9), "PTV": tube(9, 9, 9)}
        write_contours(series / "RS.dcm", series, rois)
    options = [
        word.replace("export", str(tmp_path / "export")).replace("data/mine", str(tmp_path / "out")) for word in command
    ]
    assert main([*options[3:], *SPLIT]) == 0
    organs = ["left_parotid", "spinal_cord", "mandible"]
    assert all(case["annotated"] == organs for case in cases_of(tmp_path / "out", organs).values())
