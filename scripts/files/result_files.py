"""Which files are results: the names by which they are known, and the claim that keeps them apart from inputs.

Every file of a case is named after it with one of `SUFFIXES`, and ``manifest.json`` in the same folder lists them. No
command takes a result for a scan, and none writes over an input.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SUFFIXES = {
    "labels": "_seg.nii.gz",
    "palette_labels": ".png",
    "scores": "_scores.nii.gz",
    "overlay": "_overlay.png",
    "report": "_report.html",
    "measures": "_organs.csv",
    "statistics": "_statistics.json",
    "dicom_seg": "_seg.dcm",
    "case_scores": "_dice.json",
    "pixel_counts": "_pixels.json",
    "rtstruct": "_rtstruct.dcm",
}
"""What follows the name of a case, by the kind of result; VOC's server reads masks by the name of the photograph."""
# Label maps of any format: other programs use the same endings.
TEXT_HEADERS = (".nrrd", ".mha", ".mhd")
LABEL_ENDINGS = tuple(a + b for a in ("_seg", ".seg", "_scores") for b in (".nii.gz", ".nii", *TEXT_HEADERS))
MANIFEST, JOURNALS = "manifest.json", ".manifest-*.jsonl"
"""A journal has a line for each entry that its process made since the manifest was written."""
FORMAT = "results of the AGSCL CT segmentation bundle"
"""First key of a manifest: a ``manifest.json`` without it is of another program."""
MAX_NAME_BYTES = 255
HEADER_BYTES = 8192  # of a NRRD or MetaImage file, whose header is text
DATA_FILE, INSIDE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*([^\r\n]+)", re.M | re.I), ("LOCAL", "LIST")

PathLike = str | os.PathLike[str]


def result_path(output_dir: PathLike, case: str, kind: str) -> Path:
    """Path of one result of a case: ``("out", "anna", "labels")`` -> ``out/anna_seg.nii.gz``."""
    return Path(output_dir) / f"{case}{SUFFIXES[kind]}"


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """The manifest of a folder with what its journal adds, empty if there is none of this bundle."""
    paths = [Path(folder) / MANIFEST, *Path(folder).glob(JOURNALS)]
    first, *journals = [path.read_text("utf-8", "replace") if path.is_file() else "" for path in paths]
    content = _parsed(first)
    for line in "\n".join(journals).splitlines():
        content["format"] = FORMAT
        for section, entries in _parsed(line).items():  # of a run that was killed the last line may be cut
            content[section] = content.get(section, {}) | entries
    return content if content.get("format") == FORMAT else {}


def _parsed(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def results_in(folder: PathLike, names: Iterable[str]) -> set[str]:
    """Those of the names in a folder that are results: by their ending, or since the folder's manifest lists them."""
    manifest = read_manifest(folder)
    listed = {name for case in manifest.get("cases", {}).values() for name in case["results"]}
    listed |= {MANIFEST, *manifest.get("tables", {})} if manifest else set()
    endings = (*(suffix for suffix in SUFFIXES.values() if suffix.startswith("_")), *LABEL_ENDINGS)
    return {name for name in names if name in listed or name.lower().endswith(endings)}


def files_of_scan(folder: PathLike) -> list[Path]:
    """The files in the folder of a series by name, results left aside."""
    results = results_in(folder, os.listdir(folder))
    return sorted(file for file in Path(folder).iterdir() if file.is_file() and file.name not in results)


def voxels_beside(path: PathLike) -> Path | None:
    """The file of voxels that the header of a NRRD or MetaImage file names, there or not; None if it names none."""
    with open(path, "rb") as stream:
        text = stream.read(HEADER_BYTES)
    named = DATA_FILE.search(text.partition(b"\n\n")[0] if text.startswith(b"NRRD") else text)
    data = os.fsdecode(named[1].strip()) if named else ""
    return Path(path).parent / data if data and "%" not in data and data.split()[0].upper() not in INSIDE else None


def parts_of(path: PathLike) -> list[Path]:
    """The file of a scan or label map, and that of its voxels if its header names one; none that does not exist."""
    beside = voxels_beside(path) if str(path).lower().endswith(TEXT_HEADERS) and Path(path).is_file() else None
    return [part for part in (Path(path), beside) if part and os.path.isfile(part)]


def claim_outputs(outputs: Iterable[PathLike], inputs: Iterable[PathLike], space: int = 0, new: bool = False) -> None:
    """Make sure that files can be written, and that none of them is an input; nothing is left behind.

    Inputs are files, or folders of DICOM series; what does not exist is passed over. `space` bytes have to be free
    where each file goes. With `new` an output may not be there yet: of an earlier run it might be the only copy.
    ValueError: an output is an input (by whatever path, link or spelling), is there, or cannot be written there.
    """
    identities: dict[tuple[int, int], Path] = {}
    for path in map(Path, inputs):
        if path.exists():
            identities |= {_identity(file): file for file in (path, *(path.iterdir() if path.is_dir() else ()))}
    folders = set()
    for path in map(Path, outputs):
        if (size := len(os.fsencode(path.name))) > MAX_NAME_BYTES:
            long = f"the name {path.name[:40]}... has {size} bytes, file systems take {MAX_NAME_BYTES}"
            raise ValueError(f"{long}: rename the scan, or give it a shorter 'case' in a datalist.")
        same = identities.get(_identity(path)) if os.path.lexists(path) else None
        if same is not None and not (same.is_file() and results_in(same.parent, [same.name])):
            raise ValueError(f"{path} would be written over {same}, which is an input: give another folder or file.")
        if path.is_dir():
            raise ValueError(f"{path} is to be written and is a folder: remove it, or give another output.")
        if new and os.path.lexists(path):
            raise ValueError(f"{path} is there already: give another output, or move or delete it.")
        folders.add(path.parent)
    for folder in folders:
        _require_writable(folder, space)


def _identity(path: Path) -> tuple[int, int]:
    """Device and number of a file, equal for all its names; of a broken link, those of the link."""
    status = path.stat() if path.exists() else path.lstat()
    return status.st_dev, status.st_ino


def _require_writable(folder: Path, space: int) -> None:
    while not os.path.lexists(folder) and folder != folder.parent:  # what is missing can be made in its parent
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="."):
            pass
    except OSError as error:
        raise ValueError(f"nothing can be written to {folder} ({error.strerror}): give another folder.") from error
    free = shutil.disk_usage(folder).free
    if free < space:
        need = f"{free / 2**20:.0f} MiB free and the results may need {space / 2**20:.0f} MiB"
        raise ValueError(f"{folder} has {need}: free some space, or give an output folder on another disk.")


def digest(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, in hexadecimal digits."""
    checksum = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            checksum.update(block)
    return checksum.hexdigest()


def weights_digest(path: PathLike) -> str:
    """SHA-256 of a weights file; read once, unless the file changes."""
    status = os.stat(path)
    return _digest_once(Path(path).resolve(), status.st_mtime_ns, status.st_size)


@cache
def _digest_once(path: Path, changed: int, size: int) -> str:
    return digest(path)


METADATA = Path(__file__).resolve().parents[2] / "configs/metadata.json"


class BundleIdentity(NamedTuple):
    """Name, version and intended use by ``configs/metadata.json``."""

    name: str
    version: str
    intended_use: str


@cache
def bundle_identity() -> BundleIdentity:
    """Read the metadata of this bundle."""
    content = json.loads(METADATA.read_text(encoding="utf-8"))
    return BundleIdentity(*(str(content[key]) for key in ("name", "version", "intended_use")))
