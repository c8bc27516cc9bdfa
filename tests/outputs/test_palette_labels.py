"""Label maps of photographs as the evaluation server of PASCAL VOC takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from PIL import Image

from scripts.dataset.layouts.voc import voc_colours
from scripts.outputs.palette_labels import SavePaletteLabelsd


def test_a_label_map_becomes_a_palette_png_of_its_indices(tmp_path: Path) -> None:
    labels = torch.zeros(1, 5, 3, 1, dtype=torch.uint8)
    labels[0, 4, 0], labels[0, 1, 2] = 20, 15  # top right, and second from the left in the last row
    saver = SavePaletteLabelsd("pred", str(tmp_path / "new"))
    saver({"pred": MetaTensor(labels), "case": "2008_000006"})
    written = Image.open(tmp_path / "new/2008_000006.png")
    assert written.format == "PNG" and written.mode == "P" and written.size == (5, 3)
    expected = np.zeros((3, 5), np.uint8)
    expected[0, 4], expected[2, 1] = 20, 15
    assert np.array_equal(np.asarray(written), expected)
    assert written.convert("RGB").getpixel((4, 0)) == voc_colours()[20]


def test_clients_that_strip_savers_recognise_it() -> None:
    assert issubclass(SavePaletteLabelsd, SaveImaged)
