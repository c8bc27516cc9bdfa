"""The report of a scan: one page that needs nothing else, and its measures as a table."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from monai.data import MetaTensor
from tiny_dataset import save

from scripts.drawing.overlay import organ_colour
from scripts.files.result_files import bundle_identity
from scripts.outputs.measures import MeasureOrgansd, organ_measures
from scripts.report.saver import SaveReportd, montage_figure

ORGANS = ["spleen", "right_kidney", "liver"]
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


class Page(HTMLParser):
    """Collects text, pictures, everything that would be loaded, and tags left open."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text, self.sources, self.open = "", [], []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report_on(labels: Any, folder: Path, name: str = "case_1", **noted: Any) -> tuple[Page, pd.DataFrame]:
    image = np.where(labels > 0, 50, -1000).astype(np.int16)
    scan = MetaTensor(image[None], meta={"filename_or_obj": save(folder / "scan.nii.gz", image, AFFINE)})
    step = SaveReportd("pred", str(folder / "out"), ORGANS)
    step.note_run({"weights_sha256": {"model.pt": "0" * 64}})
    item = {"case": name, "image": scan, "pred": MetaTensor(labels[None], affine=AFFINE), **noted}
    step(MeasureOrgansd("pred", ORGANS)(item))
    assert sorted(path.name for path in (folder / "out").iterdir()) == [f"{name}_organs.csv", f"{name}_report.html"]
    page = Page((folder / "out" / f"{name}_report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page, pd.read_csv(folder / "out" / f"{name}_organs.csv")


def two_organs() -> Any:
    labels = np.zeros((24, 20, 8), np.uint8)
    labels[4:10, 4:12, 2:5] = 1
    labels[14:20, 4:12, 0:6] = 3
    return labels


def test_the_page_says_what_it_is_not_for_and_measures_every_organ(tmp_path: Path) -> None:
    page, table = report_on(two_organs(), tmp_path)
    assert bundle_identity().intended_use in page.text
    assert "2 of 3 organs found in a scan of 24 x 20 x 8 voxels of 2.00 x 2.00 x 5.00 mm." in page.text
    # 6 x 8 x 3 voxels of 0.02 ml; 6 x 8 x 6.
    assert re.search(r"spleen\s*2\.9\s*50\s*-", page.text) and re.search(
        r"liver\s*5\.8\s*50\s*-\s*reaches the edge", page.text
    )
    assert re.search(r"right kidney\s*-\s*-\s*-\s*not found", page.text)
    assert "weights model.pt" in page.text
    assert table["organ"].tolist() == ORGANS
    assert table["volume_ml"].tolist() == pytest.approx([2.88, 0.0, 5.76])
    assert table["cut_off"].tolist() == [False, False, True]
    assert table["mean_hu"].isna().tolist() == [False, True, False]


def test_a_low_estimate_of_the_dice_is_pointed_out(tmp_path: Path) -> None:
    result = {"soft_dice": {"spleen": 0.91234, "liver": 0.7}, "estimated_dice": {"spleen": 0.876, "liver": 0.0}}
    page, table = report_on(two_organs(), tmp_path, result=result)
    assert re.search(r"spleen\s*2\.9\s*50\s*0\.88\s*right kidney", page.text)
    assert re.search(r"liver\s*5\.8\s*50\s*0\.00\s*look at this one; reaches the edge", page.text)
    assert table["soft_dice"].fillna(-1).tolist() == [0.912, -1, 0.7]
    assert table["estimated_dice"].fillna(-1).tolist() == [0.876, -1, 0.0]


@pytest.mark.parametrize(("noted", "said"), [({"compared": False}, True), ({"compared": True}, False), ({}, False)])
def test_a_scan_that_was_not_compared_with_the_training_scans_says_so(
    noted: dict[str, bool], said: bool, tmp_path: Path
) -> None:
    page, _ = report_on(two_organs(), tmp_path, **noted)
    assert ("Not compared with the training scans" in page.text) is said
    assert ("no scan is warned about." in page.text) is said


def test_the_pictures_lie_in_the_page_and_nothing_is_loaded(tmp_path: Path) -> None:
    page, _ = report_on(two_organs(), tmp_path)
    assert len(page.sources) == 2
    for source in page.sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        picture = imread(io.BytesIO(base64.b64decode(data)))
        assert float(np.ptp(picture[..., :3], axis=2).max()) > 0.2  # coloured


def test_a_scan_without_organs_has_a_report_with_the_overview_only(tmp_path: Path) -> None:
    page, table = report_on(np.zeros((6, 6, 6), np.uint8), tmp_path)
    assert "0 of 3 organs found" in page.text and len(page.sources) == 1
    assert table["volume_ml"].tolist() == [0.0, 0.0, 0.0]


def test_a_name_cannot_smuggle_markup_into_the_page(tmp_path: Path) -> None:
    page, _ = report_on(two_organs(), tmp_path, name="a<b>&amp")
    assert "Organs in a<b>&amp" in page.text


def test_the_montage_has_a_panel_for_every_organ_found_in_its_colour() -> None:
    labels = two_organs()
    figure = montage_figure(np.zeros(labels.shape), labels, AFFINE, ORGANS)
    assert figure is not None
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    assert [title.get_text() for title in titles] == ["spleen", "liver"]
    assert [title.get_color() for title in titles] == [organ_colour(1), organ_colour(3)]
    assert montage_figure(np.zeros(labels.shape), labels * 0, AFFINE, ORGANS) is None


AFFINE_MEASURES = np.array([[0.0, -2.0, 0.0, 5.0], [2.5, 0.0, 0.0, 6.0], [0.0, 0.0, -4.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
"""A voxel is 2 x 2.5 x 4 mm = 0.02 ml, whatever the orientation."""


def test_volume_is_in_ml_and_mean_in_hu() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1, 1, 1:4] = 1
    labels[3, 3, 2] = 3
    image = np.full(labels.shape, -1000, np.int16)
    image[1, 1, 1:4] = 40, 50, 90
    image[3, 3, 2] = -7
    spleen, liver, aorta = organ_measures(image, labels, AFFINE_MEASURES, ["spleen", "liver", "aorta"])
    assert spleen.volume_ml == pytest.approx(0.06) and spleen.mean_hu == pytest.approx(60.0)
    assert (liver.volume_ml, liver.mean_hu) == (0.0, None)
    assert aorta.volume_ml == pytest.approx(0.02) and aorta.mean_hu == pytest.approx(-7.0)
    assert [measure.class_index for measure in (spleen, liver, aorta)] == [1, 2, 3]


@pytest.mark.parametrize("edge", [(0, 2, 2), (4, 2, 2), (2, 0, 2), (2, 4, 2), (2, 2, 0), (2, 2, 4)])
def test_an_organ_at_any_edge_of_the_scan_is_cut_off(edge: tuple[int, int, int]) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 1
    labels[edge] = 2
    inside, outside = organ_measures(np.zeros(labels.shape), labels, AFFINE_MEASURES, ["spleen", "liver"])
    assert (inside.cut_off, outside.cut_off) == (False, True)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the highest class index is 2 of 1 organs"):
        organ_measures(np.zeros((2, 2, 2)), np.full((2, 2, 2), 2, np.uint8), AFFINE_MEASURES, ["spleen"])
    with pytest.raises(ValueError, match="give a label map on the scan's grid"):
        organ_measures(np.zeros((2, 2, 3)), np.zeros((2, 2, 2), np.uint8), AFFINE_MEASURES, ["spleen"])
