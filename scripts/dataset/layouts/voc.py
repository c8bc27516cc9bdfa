"""The layout of PASCAL VOC as a datalist: a devkit folder is read where a dataset.json would be.

::

    VOC2012/JPEGImages/2007_000032.jpg
    VOC2012/SegmentationClass/2007_000032.png    indices in a palette; 255 where the truth is unknown
    VOC2012/ImageSets/Segmentation/train.txt     a name in a line; val.txt, trainval.txt, test.txt
    VOC2012/classes.txt                          other classes than VOC's, background first (our addition)

Everingham et al., The PASCAL Visual Object Classes Challenge 2012, development kit.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from scripts.dataset.problems import listed

IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
CLASS_NAMES, IGNORED_VALUE = "classes.txt", 255
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
SPLITS = {"train": "training", "val": "validation"}


def voc_colours() -> list[tuple[int, int, int]]:
    """The 256 colours of VOC's palette (devkit: VOClabelcolormap).

    >>> voc_colours()[:3], voc_colours()[255]
    ([(0, 0, 0), (128, 0, 0), (0, 128, 0)], (224, 224, 192))
    """
    # Every third bit of the index, from the lowest on, becomes a bit of a colour, from the highest on.
    places = [[(bit + offset, 7 - bit // 3) for bit in (0, 3, 6)] for offset in range(3)]
    red, green, blue = ([sum((n >> a & 1) << b for a, b in of) for n in range(256)] for of in places)
    return list(zip(red, green, blue, strict=True))


def is_layout(folder: str) -> bool:
    """Whether a folder looks like VOC2012 of the devkit, complete or not."""
    return any(Path(folder, part).is_dir() for part in (IMAGES, MASKS, LISTS))


def datalist(folder: str) -> dict[str, Any]:
    """The content of the dataset.json that this folder stands for; FileNotFoundError: something is missing in it.

    ``train`` and ``val`` become the splits ``training`` and ``validation``, every list is a split by its own name too,
    and ``test`` is ``val`` where the folder has no test images.
    """
    root = Path(folder)
    needed = [IMAGES, MASKS, LISTS, *(f"{LISTS}/{name}.txt" for name in SPLITS)]
    if missing := [part for part in needed if not (root / part).exists()]:
        lack = f"it has no {', no '.join(missing)}; expected {IMAGES}, {MASKS} and {LISTS} side by side"
        remedy = "give VOCdevkit/VOC2012 of VOCtrainval_11-May-2012.tar"
        raise FileNotFoundError(f"{folder} is not a complete VOC folder, {lack}: {remedy}.")
    lists = {path.stem: _read_list(path) for path in sorted((root / LISTS).glob("*.txt"))}
    _refuse_missing_files(root, lists)
    own_classes = root / CLASS_NAMES
    classes = _read_classes(own_classes) if own_classes.exists() else VOC_CLASSES
    labels = {str(value): name for value, name in enumerate(["background", *classes])}
    content: dict[str, Any] = {"labels": labels, "ignored": IGNORED_VALUE, "voc_palette": not own_classes.exists()}
    for list_name, names in lists.items():
        content[SPLITS.get(list_name, list_name)] = [_entry(root, name) for name in names]
    content.setdefault("test", [{"image": entry["image"]} for entry in content["validation"]])
    return content


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_list(path: Path) -> list[str]:
    names = _lines(path)
    wrong = [f"holds lines such as '{name}'" for name in names if len(name.split()) != 1 or "/" in name]
    wrong += [f"lists {name} more than once" for name, count in Counter(names).items() if count > 1]
    if not names or wrong:
        found = [*wrong, "is empty"][0]
        raise ValueError(f"{path} {found}; expected an image's name in each line, without folder or .jpg, each once.")
    return names


def _refuse_missing_files(root: Path, lists: dict[str, list[str]]) -> None:
    images = {f"{name}.jpg" for names in lists.values() for name in names}
    # The masks of the test images are with the evaluation server.
    masks = {f"{name}.png" for list_name, names in lists.items() if list_name != "test" for name in names}
    lines = []
    for folder, wanted in ((root / IMAGES, images), (root / MASKS, masks)):
        if missing := sorted(wanted - set(os.listdir(folder))):
            lines.append(f"{folder} lacks {len(missing)} files that the lists name: {listed(missing, 5)}.")
    if lines:
        raise FileNotFoundError("\n".join([*lines, "Unpack the archive again, or remove the names from the lists."]))


def _entry(root: Path, name: str) -> dict[str, str]:
    entry, mask = {"image": f"{IMAGES}/{name}.jpg"}, f"{MASKS}/{name}.png"
    return entry | {"label": mask} if (root / mask).exists() else entry


def _read_classes(path: Path) -> list[str]:
    """Names of the folder's own classes 1, 2, ..."""
    names = _lines(path)
    if names[:1] != ["background"] or len(names) < 2 or len(set(names)) < len(names) or len(names) > IGNORED_VALUE - 1:
        expected = f"'background' and then the name of class 1, 2, ..., each once, at most {IGNORED_VALUE - 2} classes"
        raise ValueError(f"{path} begins with {names[:3]}; expected {expected}, one in each line.")
    return names[1:]
