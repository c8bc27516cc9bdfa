"""The datalist on disk: a Decathlon-style JSON file with a list of entries per split, and the names of its cases."""

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.dataset.layouts import layout_of

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")  # volumes that MONAI reads through ITK
PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png")
PATH_KEYS = ("image", "label")


def datalist_path(dataset_dir: str) -> str:
    """Absolute path of the dataset.json of a folder."""
    return os.path.join(os.path.abspath(os.path.expanduser(dataset_dir)), "dataset.json")


def read_datalist(path: str) -> dict[str, Any]:
    """Read a datalist, or the folder that one is looked for in, if it has one of the known layouts."""
    if not os.path.isfile(path):
        folder = os.path.dirname(path)
        if layout := layout_of(folder):
            return dict(layout.datalist(folder))
        found = sorted(name for name in os.listdir(folder) if name.endswith(".json")) if os.path.isdir(folder) else []
        there = f"datalist {path} does not exist; JSON files in that folder: {', '.join(found) or 'none'}"
        raise FileNotFoundError(f"{there}. Write one, set datalist to its name, or give a folder of PASCAL VOC.")
    content = read_json(path, "datalist")
    if not isinstance(content, dict):
        kind = f"a JSON {type(content).__name__}, expected an object with 'labels' and a list per split"
        raise ValueError(f"datalist {path} holds {kind}; put the list under a key such as 'training'.")
    return content


def read_json(path: str, what: str) -> Any:
    """The content of a JSON file; raises a ValueError that says where it is broken."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            return json.load(stream, object_pairs_hook=_without_repetition)
    except ValueError as error:  # of JSON, of UTF-8, or of a repeated key
        raise ValueError(f"{what} {path} is not valid JSON ({error}); fix the file at that place.") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content, names = dict(pairs), [name for name, _ in pairs]
    if len(content) < len(names):  # Python would keep the last one without a word
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' stands there twice")
    return content


def joined(root: str, path: str) -> str:
    """A path from a folder, as the system follows it: after a link ``..`` leads out of what it links to."""
    return os.path.normpath(os.path.join(os.path.realpath(root) if ".." in path else root, path))


def split_names(content: Mapping[str, Any]) -> list[str]:
    """Names of the splits that the datalist has, in its order."""
    return [key for key, entries in content.items() if isinstance(entries, list)]


def entries_of_split(content: Mapping[str, Any], split: str, path: str) -> list[Any]:
    """Entries of one split; the bare file names by which the Decathlon lists test scans become ``{"image": name}``."""
    if split not in split_names(content):
        there = f"no split '{split}'; it has: {', '.join(split_names(content)) or 'none'}"
        raise ValueError(f"datalist {path} has {there}. Choose one of these, or add the split as a list of cases.")
    entries: list[Any] = content[split]
    if not entries:
        raise ValueError(f"split '{split}' of datalist {path} is an empty list, expected at least one case; add some.")
    return [{"image": entry} if isinstance(entry, str) else entry for entry in entries]


def has_image(entry: Any) -> bool:
    """Whether an entry of a datalist names a scan."""
    return isinstance(entry, dict) and isinstance(entry.get("image"), str) and bool(entry["image"])


def is_photograph(path: str) -> bool:
    """Whether a file is a 2D image, by its name."""
    return path.lower().endswith(PHOTOGRAPH_SUFFIXES)


def case_name(path: str) -> str:
    """Name a case after its scan: ``/data/a.b.nii.gz`` -> ``a.b``, the DICOM folder ``/data/ct.1`` -> ``ct.1``."""
    name = os.path.basename(os.path.normpath(path))
    for suffix in (*NIFTI_SUFFIXES, *ITK_SUFFIXES, *PHOTOGRAPH_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def files_of(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Paths of the scans and labels of cases; a case may lack either."""
    return [str(case[key]) for case in cases for key in PATH_KEYS if case.get(key)]


def refuse_equal_names(cases: Sequence[Mapping[str, Any]], source: str) -> None:
    """Raise a ValueError if two cases have one name: whatever is written per case would overwrite the other's."""
    first_image: dict[str, str] = {}
    clashes = []
    for case in cases:
        name = case["case"]
        if not isinstance(name, str) or name in ("", ".", "..") or any(mark in name for mark in "/\\\0\n"):
            raise ValueError(f"{source} has the 'case' {name!r}, expected the name of a file without folders; fix it.")
        spelling = unicodedata.normalize("NFC", name).casefold()  # Windows and macOS do not tell these apart
        if spelling in first_image:
            clashes.append(f"'{case['case']}': {first_image[spelling]} and {case['image']}")
        first_image.setdefault(spelling, case["image"])
    if clashes:
        equal = f"cases of equal file name, expected each name once: {'; '.join(clashes)}"
        raise ValueError(f"{source} has {equal}. Rename one of the files, or remove what is listed twice.")
