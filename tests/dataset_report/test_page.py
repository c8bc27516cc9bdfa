"""The report as a reader gets it: one file with everything in it."""

from __future__ import annotations

import base64
import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from tiny_dataset import ct_voxels, label_voxels, save, truncate

from scripts.dataset_report.__main__ import main, report_dataset
from scripts.dataset_report.doubts import by_name
from scripts.dataset_report.measure import GAP, HEIGHT, MAX_WIDTH, thumbnail


class Page(HTMLParser):
    """Sources of pictures and links, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.sources += [given["src"]] if "src" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.ids += [given["id"]] if "id" in given else []

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture(autouse=True)
def undisturbed_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command decides how errors are shown, for the whole process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Eight cases: one without a label, one whose label is in pieces, one from which half of the file is missing."""
    entries = []
    for n in range(8):
        save(tmp_path / f"s<{n}.nii.gz", ct_voxels(n))
        label = label_voxels()
        if n == 3:
            label[:] = 0
            label[0, 0, 0] = label[5, 4, 3] = 1
        save(tmp_path / f"l{n}.nii.gz", label)
        entries.append({"image": f"s<{n}.nii.gz", "label": f"l{n}.nii.gz"})
    del entries[7]["label"]
    truncate(tmp_path / "s<5.nii.gz")
    content = {"name": "Mine & yours", "labels": {"1": "spleen", "2": "liver"}, "training": entries[:6]}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "validation": entries[6:]}))
    return tmp_path


def test_the_report_shows_every_case_and_needs_nothing_beside_it(
    data_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data_set / "report.html"
    main(["--dataset_dir", str(data_set), "--output", str(path)])
    page = Page(path)
    assert "Mine & yours" in page.text
    assert page.ids == [f"s<{n}" for n in range(8)]
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links)
    assert len(page.sources) == 4 + 7  # figures, and a picture of every case that could be read
    for source in page.sources:
        kind, _, content = source.partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg") and base64.b64decode(content, validate=True)
    assert "50 % of spleen is apart from its largest piece" in page.text
    assert "file cannot be read (1)" in page.text and "cannot be read:" in page.text
    assert "8 scans" in capsys.readouterr().out


def test_the_check_of_the_files_is_not_repeated_when_its_result_is_given(data_set: Path) -> None:
    report_dataset(str(data_set), str(data_set / "report.html"), ["spleen"], notes=["all is well"])
    page = Page(data_set / "report.html")
    assert "all is well" in page.text and "file cannot be read (1)" not in page.text
    assert "liver" not in page.text


def test_a_thumbnail_is_cut_to_the_body_and_keeps_its_proportions(tmp_path: Path) -> None:
    voxels = np.full((60, 60, 10), -1000, np.int16)
    voxels[10:50, 20:40, :] = 50  # 80 mm wide, 40 mm deep, 30 mm high
    (tmp_path / "t.jpg").write_bytes(thumbnail(voxels, np.zeros(voxels.shape, np.uint8), (2.0, 2.0, 3.0), 1))
    picture = imread(tmp_path / "t.jpg")
    assert picture.shape[0] == HEIGHT and picture.shape[1] == 2 * MAX_WIDTH + GAP
    rows = np.nonzero(picture[:, MAX_WIDTH // 2, 0] > 60)[0]
    assert rows[-1] - rows[0] + 1 == pytest.approx(MAX_WIDTH / 2, abs=3)  # axial: half as high as wide


def test_the_picture_shows_the_organ_in_colour(tmp_path: Path) -> None:
    voxels = np.full((40, 40, 10), 50, np.int16)
    labels = np.zeros(voxels.shape, np.uint8)
    labels[10:30, 10:30, 5] = 1
    (tmp_path / "t.jpg").write_bytes(thumbnail(voxels, labels, (2.0, 2.0, 8.0), 1))
    picture = imread(tmp_path / "t.jpg").astype(int)
    assert picture[HEIGHT // 2, HEIGHT // 2, 0] - picture[HEIGHT // 2, HEIGHT // 2, 1] > 40  # red
    assert abs(picture[5, 5, 0] - picture[5, 5, 1]) < 10  # grey


@pytest.mark.skipif(not os.environ.get("AGSCL_SHARED_DATA"), reason="AGSCL_SHARED_DATA names no folder with openkbp")
@pytest.mark.slow
def test_a_clinical_data_set_is_reported(tmp_path: Path) -> None:
    folder = Path(os.environ["AGSCL_SHARED_DATA"]) / "openkbp"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    cases = report_dataset(str(folder), str(tmp_path / "report.html"), notes=[])
    assert len(cases) == 201 and not [case for case in cases if case.failure]
    # Two patients whose spinal cord is contoured to twenty times its volume.
    assert "spinal cord has 543 ml" in Page(tmp_path / "report.html").text


def test_doubted_contours_are_those_of_one_scan_and_of_training_by_maps_that_do_not_know_them() -> None:
    # Maps and table know a case by its name: of two scans of one name the second was judged by the first one's maps.
    anna, ben = ({"case": name, "image": f"/ct/{name}.nii.gz"} for name in ("anna", "ben"))
    # The whole network, by which all other splits are judged, was trained on the cases of training.
    jobs = by_name({"training": [anna], "trainval": [anna, ben]})
    assert jobs == {"anna": ("training", anna), "ben": ("trainval", ben)}
    with pytest.raises(ValueError, match="'anna': /ct/anna.nii.gz and /later/anna.nii.gz"):
        by_name({"validation": [anna], "test": [{"case": "anna", "image": "/later/anna.nii.gz"}]})
