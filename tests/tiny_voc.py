"""A data set in PASCAL VOC's layout: coloured discs and squares on grey, with borders whose truth is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tiny_workflows import TINY_TRAINING

from scripts.dataset.layouts.voc import IGNORED_VALUE, voc_colours

CLASSES = ["disc", "square"]
COLOURS = {1: (220, 40, 40), 2: (40, 60, 220)}
WIDTH, HEIGHT = 60, 44
TINY_VOC: dict[str, Any] = {
    **TINY_TRAINING,
    "organs": CLASSES,
    "phases": [],
    "spacing": [2.0, 2.0, 1.0],
    "coarse_spacing": [4.0, 4.0, 1.0],
    "coarse::stage::patch_size": [16, 16, 1],
    "coarse::stage::batch_size": 4,
}
"""What makes a workflow of voc.yaml one of seconds on this data."""


def shapes(number: int, width: int = WIDTH, height: int = HEIGHT) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A photograph [y, x, colour] and its mask [y, x]: a disc in every one, a square in all but every third."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    distance = np.hypot(x - random.uniform(12, 20), y - random.uniform(12, 32))
    mask[distance < 10] = 1
    mask[(distance >= 10) & (distance < 12)] = IGNORED_VALUE
    if number % 3:
        left, top = random.integers(32, 40), random.integers(4, 24)
        mask[top : top + 16, left : left + 18] = 2
    picture = np.full((height, width, 3), 128.0)
    for value, colour in COLOURS.items():
        picture[mask == value] = colour
    noisy = picture + random.normal(0, 12, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8), mask


def save_mask(path: Path, mask: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]] | None = None) -> None:
    """Write indices [y, x] as a palette PNG; with VOC's palette, unless others are given."""
    picture = Image.fromarray(mask)
    picture.putpalette([value for colour in colours or voc_colours() for value in colour])
    picture.save(path)


def write_voc(
    folder: Path, train: int = 4, val: int = 2, test: int = 0, classes: Sequence[str] | None = CLASSES
) -> Path:
    """Write the layout and return its folder; test images have no mask."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if classes is not None:
        (folder / "classes.txt").write_text("\n".join(["background", *classes]) + "\n", encoding="utf-8")
    number = 0
    for name, count in (("train", train), ("val", val), ("test", test)):
        names = [f"{name}_{n}" for n in range(count)]
        if names:
            (folder / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for each in names:
            number += 1
            picture, mask = shapes(number)
            Image.fromarray(picture).save(folder / f"JPEGImages/{each}.jpg", quality=95)
            if name != "test":
                save_mask(folder / f"SegmentationClass/{each}.png", mask)
    return folder


def photograph_case(folder: Path, name: str = "train_0", **changes: Any) -> dict[str, Any]:
    """The case of an image that `write_voc` wrote."""
    return {
        "case": name,
        "image": str(folder / f"JPEGImages/{name}.jpg"),
        "label": str(folder / f"SegmentationClass/{name}.png"),
        "annotated": list(CLASSES),
        "phase": None,
        "label_values": {"disc": 1, "square": 2},
        "known_values": [0, 1, 2],
        "ignored_value": IGNORED_VALUE,
        **changes,
    }
