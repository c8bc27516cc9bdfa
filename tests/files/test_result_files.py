"""Inputs and results are kept apart, whatever names and links lead to them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.dataset.inference_inputs import scan_inputs
from scripts.files import result_files
from scripts.files.result_files import MANIFEST, claim_outputs, parts_of, read_manifest, results_in
from scripts.inference import manifest as manifests
from scripts.inference.manifest import Manifest


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A file that stands for a scan."""
    path = tmp_path / "anna.nii.gz"
    path.write_bytes(b"voxels")
    return path


@pytest.mark.parametrize("kind", ["path", "symbolic link", "hard link", "spelling"])
def test_an_input_is_never_an_output(scan: Path, kind: str) -> None:
    output = scan.with_name("other.nii.gz")
    if kind == "symbolic link":
        output.symlink_to(scan)
    elif kind == "hard link":
        os.link(scan, output)
    else:
        output = scan if kind == "path" else scan.parent / ".." / scan.parent.name / scan.name
    with pytest.raises(ValueError, match="which is an input"):
        claim_outputs([output], [scan])


def test_a_file_in_the_place_of_the_output_folder_is_refused(scan: Path) -> None:
    with pytest.raises(ValueError, match="nothing can be written"):
        claim_outputs([scan / "x_seg.nii.gz"], [])


def test_a_name_too_long_for_the_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rename the scan"):
        claim_outputs([tmp_path / ("x" * 250 + "_report.html")], [])


def test_results_are_known_by_their_names_and_not_taken_for_scans(scan: Path) -> None:
    (scan.parent / "anna_seg.nii.gz").write_bytes(b"labels")
    assert [case["case"] for case in scan_inputs(str(scan.parent))] == ["anna"]
    assert results_in(scan.parent, ["a.nii", "A_SEG.NII", "a_overlay.png"]) == {"A_SEG.NII", "a_overlay.png"}
    with pytest.raises(ValueError, match="result by its name"):
        scan_inputs(str(scan.parent / "anna_seg.nii.gz"))


def test_a_result_is_replaced_only_by_the_same_scan_and_only_unchanged(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = [{"case": "anna", "image": str(scan)}]
    first = Manifest(out, ["labels"], [])
    first.claim(cases)
    first.begin("anna")
    (out / "anna_seg.nii.gz").write_bytes(b"labels")
    first.record("anna", ["a warning"])
    Manifest(out, ["labels"], []).claim(cases)
    (out / "anna_seg.nii.gz").write_bytes(b"edited by hand")
    with pytest.raises(ValueError, match="changed since it was written"):
        Manifest(out, ["labels"], []).claim(cases)
    scan.write_bytes(b"another patient")
    with pytest.raises(ValueError, match="made from another scan"):
        Manifest(out, ["labels"], []).claim(cases)


def test_a_later_process_of_a_run_does_not_judge_what_the_first_is_writing(scan: Path, tmp_path: Path) -> None:
    cases = [{"case": name, "image": str(scan)} for name in ("anna", "bert")]
    first, second = (Manifest(tmp_path / "out", ["labels"], []) for _ in range(2))
    assert first.claim(cases) == []
    first.begin("anna")
    (tmp_path / "out/anna_seg.nii.gz").write_bytes(b"labels")
    assert second.claim(cases, done=[]) == [] and second.claim(cases, done=["bert"]) == ["bert"]
    with pytest.raises(ValueError, match="anna_seg.nii.gz"):
        Manifest(tmp_path / "out", ["labels"], []).claim([{"case": "anna", "image": __file__}])


def test_the_weights_of_every_fold_count_though_all_files_are_called_alike(scan: Path) -> None:
    paths = [str(scan.parent / f"fold{number}/model.pt") for number in range(3)]
    for path in map(Path, paths):
        path.parent.mkdir()
        path.write_text(path.parent.name)
    cases, out = [{"case": "anna", "image": str(scan)}], scan.parent / "out"

    def ensemble(*folds: int) -> Manifest:
        return Manifest(out, ["labels"], [paths[fold] for fold in folds])

    first = ensemble(0, 2)
    first.claim(cases)
    first.begin("anna")
    (out / "anna_seg.nii.gz").write_bytes(b"labels")
    first.record("anna")
    assert ensemble(0, 2).claim(cases) == ["anna"]
    for other in (ensemble(1, 2), ensemble(2)):
        with pytest.raises(ValueError, match="made with other weights"):
            other.claim(cases)


def test_what_is_left_of_another_scan_of_the_same_name_is_not_listed_as_of_this_one(scan: Path) -> None:
    out, other = scan.parent / "out", scan.parent / "other/anna.nii.gz"
    other.parent.mkdir()
    other.write_bytes(b"another patient")
    for image, kinds in ((scan, ["labels", "report"]), (other, ["labels"])):
        (out / "anna_seg.nii.gz").unlink(missing_ok=True)  # moved elsewhere by the user
        run = Manifest(out, kinds, [])
        run.claim([{"case": "anna", "image": str(image)}])
        run.begin("anna")
        for path in run.files_of("anna"):
            path.write_bytes(b"result")
        run.record("anna")
        run.finish()
    assert [*read_manifest(out)["cases"]["anna"]["results"]] == ["anna_seg.nii.gz"]
    with pytest.raises(ValueError, match=r"anna_report.html: no run listed in manifest.json has written it"):
        Manifest(out, ["report"], []).claim([{"case": "anna", "image": str(other)}])


def test_room_has_to_be_free_for_scans_that_are_not_done(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmented(scan)
    monkeypatch.setattr(manifests, "SPACE_PER_SCAN", 2**60)
    assert segmented(scan).found_done == ["anna"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="MiB free and the results may need"):
        segmented(scan, settings="bfloat16")


def scored(scan: Path, **changes: Any) -> Manifest:
    """An evaluation of one scan, before its work."""
    given = {"settings": {"title": "ours"}, "label": "spleen", "weights": "weights", **changes}
    (scan.parent / "label.nii.gz").write_text(given["label"])
    (scan.parent / "model.pt").write_text(given["weights"])
    weights = [str(scan.parent / "model.pt")]
    manifest = Manifest(scan.parent / "out", [], weights, {"scores.csv": given["settings"]})
    manifest.claim([{"case": "anna", "image": str(scan), "label": str(scan.parent / "label.nii.gz")}])
    return manifest


def test_scores_are_replaced_only_by_those_of_the_same_evaluation_and_only_unchanged(scan: Path) -> None:
    first = scored(scan)
    (scan.parent / "out").mkdir()
    (scan.parent / "out/scores.csv").write_text("anna,0.9")
    with pytest.raises(ValueError, match=r"scores\.csv: no run listed"):
        scored(scan)
    first.finish()
    scored(scan).finish()
    for change, words in (
        ({"label": "liver"}, "cases"),
        ({"weights": "others"}, "weights"),
        ({"settings": {"title": "theirs"}}, "settings"),
    ):
        with pytest.raises(
            ValueError, match=f"scores.csv: made with other {words}\\nGive another output folder, or move"
        ):
            scored(scan, **change)
    (scan.parent / "out/scores.csv").write_text("anna,1.0")
    with pytest.raises(ValueError, match="changed since it was written"):
        scored(scan)
    assert results_in(scan.parent / "out", ["scores.csv", "mine.csv"]) == {"scores.csv"}


def test_a_run_writes_its_manifest_line_by_line_and_a_killed_one_loses_nothing(scan: Path) -> None:
    out = scan.parent / "out"
    cases = [{"case": f"p{number}", "image": str(scan)} for number in range(40)]
    running = Manifest(out, ["labels"], [])
    running.claim(cases)
    sizes = []
    for case in cases:
        running.begin(case["case"])
        (out / f"{case['case']}_seg.nii.gz").write_bytes(b"labels")
        running.record(case["case"])
        sizes.append(running.journal.stat().st_size)
    assert sizes[-1] < 41 * sizes[0] and not (out / MANIFEST).exists()
    with running.journal.open("a") as journal:
        journal.write('{"cases": {"p0": {"inp')  # killed here
    assert len(read_manifest(out)["cases"]) == 40
    Manifest(out, ["labels"], []).claim(cases)
    second = Manifest(out, ["labels"], [])
    second.claim(cases)
    second.fold()
    second.begin("p0")
    second.record("p0")
    second.finish()
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []
    assert all(entry["finished"] for entry in json.loads((out / MANIFEST).read_text())["cases"].values())


def segmented(scan: Path, done: bool = True, settings: object = "float32", **case: Any) -> Manifest:
    """A run on one scan: before its work, or with its result written."""
    manifest = Manifest(scan.parent / "out", ["labels", "report"], [], settings=settings)
    manifest.found_done = manifest.claim([{"case": "anna", "image": str(scan), **case}])  # type: ignore[attr-defined]
    manifest.begin("anna")
    if done:
        result = scan.parent / "out/anna_seg.nii.gz"
        result.write_bytes(b"labels")
        manifest.record("anna")
    manifest.finish()
    return manifest


def test_a_scan_is_done_if_it_its_settings_and_its_results_are_the_same(scan: Path) -> None:
    def found(**changes: Any) -> list[str]:
        done: list[str] = segmented(scan, **changes).found_done  # type: ignore[attr-defined]
        return done

    label = scan.with_name("label.nii.gz")
    label.write_bytes(b"spleen")
    known = {"annotated": ["spleen"], "label": str(label)}
    assert found(**known) == []
    assert found(**known) == ["anna"]
    assert found(**known, settings="bfloat16") == []
    assert found(**known) == [], "the settings of the last run count"
    assert found(**known | {"annotated": ["liver"]}) == []
    assert found(**known) == []
    label.write_bytes(b"liver")
    assert found(**known) == []
    assert found(**known) == ["anna"]
    (scan.parent / "out/anna_seg.nii.gz").unlink()
    assert found(**known) == []

    header, voxels = scan.with_name("label.mhd"), scan.with_name("label.raw")
    header.write_text("ObjectType = Image\nElementDataFile = label.raw\n")
    voxels.write_bytes(b"spleen")
    apart = known | {"label": str(header)}
    assert [found(**apart), found(**apart)] == [[], ["anna"]]
    voxels.write_bytes(b"kidney")
    assert found(**apart) == [], "the voxels are others, the header is the same"


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.mhd", "ElementDataFile = a.raw\n", ["a.mhd", "a.raw"]),
        ("a.mhd", "ElementDataFile = gone.raw\n", ["a.mhd"]),
        ("a.mhd", "ElementDataFile = LIST\na.raw\n", ["a.mhd"]),
        ("a.mhd", "ElementDataFile = \n", ["a.mhd"]),
        ("a.mha", "ElementDataFile = LOCAL\nvoxels", ["a.mha"]),
        ("a.nrrd", "NRRD0004\ndata file: a.raw\n\n", ["a.nrrd", "a.raw"]),
        ("a.nrrd", "NRRD0004\n\ndata file: a.raw\n", ["a.nrrd"]),
        ("a.nii.gz", "ElementDataFile = a.raw\n", ["a.nii.gz"]),
    ],
)
def test_the_file_of_voxels_that_a_header_names_is_part_of_the_scan(
    name: str, text: str, parts: list[str], tmp_path: Path
) -> None:
    assert parts_of(tmp_path / name) == []
    (tmp_path / name).write_text(text)
    (tmp_path / "a.raw").write_bytes(b"voxels")
    assert [part.name for part in parts_of(tmp_path / name)] == parts


def test_results_of_another_version_are_kept_and_that_is_said(
    scan: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segmented(scan).found_done == []  # type: ignore[attr-defined]
    assert segmented(scan).found_done == ["anna"]  # type: ignore[attr-defined]
    assert "another version" not in caplog.text
    now = result_files.bundle_identity()
    monkeypatch.setattr(result_files, "bundle_identity", lambda: now._replace(version="999.0"))
    assert segmented(scan).found_done == ["anna"]  # type: ignore[attr-defined]
    assert "out: the results of anna were made by another version of the bundle and are kept" in caplog.text


def test_results_of_other_settings_that_stay_beside_the_new_ones_are_named(
    scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = {"case": "anna", "image": str(scan)}
    for settings, kinds in (("float32", ["labels", "report"]), ("float32", ["labels"]), ("bfloat16", ["labels"])):
        assert "stay beside" not in caplog.text
        run = Manifest(scan.parent / "out", kinds, [], settings=settings)
        run.claim([case])
        run.begin("anna")
        for path in run.files_of("anna"):
            path.write_text(settings)
        run.record("anna")
        run.finish()
    assert "out: anna_report.html stay beside those of this run, and an earlier one with other settings" in caplog.text


def test_a_scan_that_an_earlier_run_did_not_end_is_not_done_and_comes_last(scan: Path) -> None:
    segmented(scan, done=False)
    again = Manifest(scan.parent / "out", ["labels"], [], settings="float32")
    large = scan.with_name("large.nii.gz")
    large.write_bytes(2 * scan.read_bytes())
    cases = [{"case": name, "image": str(image)} for name, image in (("anna", scan), ("berta", scan), ("clara", large))]
    assert again.claim(cases) == []
    assert [case["case"] for case in sorted(cases, key=again.turn)] == ["clara", "berta", "anna"]
