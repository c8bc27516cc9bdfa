"""From a path that a user gives to the scans to segment: a file, a folder, a datalist or a DICOM series."""

import logging
import os

from scripts.dataset import datalist_file
from scripts.dataset.layouts import layout_of
from scripts.dataset.problems import listed
from scripts.dicom.series import find_series
from scripts.dicom.series_folder import series_folder
from scripts.files.result_files import results_in

logger = logging.getLogger(__name__)

VOLUME_SUFFIXES = (*datalist_file.NIFTI_SUFFIXES, *datalist_file.ITK_SUFFIXES)
ACCEPTED = "a volume (.nii, .nii.gz, .nrrd, .mha, .mhd), a folder of them, a datalist (.json) or a DICOM series folder"


def scan_inputs(path: str, series: str | int | None = None) -> list[dict[str, str]]:
    """List the scans to segment: one ``{"case": name, "image": absolute path}`` each, sorted by file name.

    The path is a volume file; a folder of volume files (not searched below its first level); a datalist, which keeps
    its order, or a folder with a ``dataset.json``, of which the ``test`` split is taken, or every entry if it has none;
    a folder that holds a DICOM series, also in subfolders; or a photograph, a folder of nothing else, or one in PASCAL
    VOC's layout. The image of a DICOM series is a folder that holds this series alone. `series` is one of several: its
    UID, or its number in the list that the refusal shows. FileNotFoundError, ValueError: nothing there, or unclear.
    """
    absolute = os.path.abspath(os.path.expanduser(path))
    in_folder = os.path.join(absolute, "dataset.json")
    if os.path.isfile(in_folder) or layout_of(absolute):
        cases = _cases_of_datalist(in_folder)
    elif os.path.isfile(absolute) and absolute.lower().endswith(".json"):
        cases = _cases_of_datalist(absolute)
    elif os.path.isdir(absolute):
        cases = [{"case": datalist_file.case_name(image), "image": image} for image in _scans_in(absolute, series)]
    elif not os.path.isfile(absolute):
        raise FileNotFoundError(f"input '{path}' does not exist; expected {ACCEPTED}; fix the path.")
    elif not absolute.lower().endswith(VOLUME_SUFFIXES) and not datalist_file.is_photograph(absolute):
        raise ValueError(f"input '{path}' is not a kind of file that is read; expected {ACCEPTED} (of DICOM a folder).")
    elif results_in(os.path.dirname(absolute), [os.path.basename(absolute)]):
        raise ValueError(f"input '{path}' is a result by its name, no scan; rename it if it is one after all.")
    else:
        cases = [{"case": datalist_file.case_name(absolute), "image": absolute}]
    datalist_file.refuse_equal_names(cases, f"input '{path}'")
    if series is not None and (len(cases) > 1 or os.path.isfile(cases[0]["image"])):
        raise ValueError(f"series '{series}' is asked for, and input '{path}' has no DICOM series: leave it out.")
    return cases


def _scans_in(folder: str, series: str | int | None) -> list[str]:
    """The volumes of a folder, the photographs of one that holds nothing else, or the one DICOM series below it."""
    # A dot starts the resource files that macOS leaves beside each volume.
    names = [name for name in sorted(os.listdir(folder)) if name[0] != "."]
    if results := results_in(folder, names):
        logger.warning("%s: %d results of a segmentation are not taken for scans.", folder, len(results))
    paths = [os.path.join(folder, name) for name in names if name not in results]
    volumes = [path for path in paths if path.lower().endswith(VOLUME_SUFFIXES)]
    if volumes and not _has_dicom(folder):
        return volumes
    if volumes and series is None:
        beside = listed([os.path.basename(path) for path in volumes], 5)
        raise ValueError(f"folder {folder} holds a DICOM series beside {beside}: give the file, or --series.")
    files = [path for path in paths if os.path.isfile(path)]
    pictures = files and all(map(datalist_file.is_photograph, files))
    if pictures and not _has_dicom(folder):  # beside a DICOM series a picture is a preview
        return files
    if readable := series_folder(folder, series):
        return [readable]
    subfolders = [name for name in names if os.path.isdir(os.path.join(folder, name))]
    there = f"it contains {listed(names, 5)}" if names else "it is empty"
    if subfolders:
        there = f"subfolders are searched for DICOM only; give one of them ({listed(subfolders, 5)})"
    raise FileNotFoundError(f"folder {folder} holds no scan; expected {ACCEPTED}; {there}.")


def _has_dicom(folder: str) -> bool:
    """Whether a folder holds a series that could be segmented, also in subfolders."""
    try:
        return any(not found.obstacle for found in find_series(folder))
    except ValueError:  # broken DICOM files are DICOM files
        return True


def _cases_of_datalist(path: str) -> list[dict[str, str]]:
    content = datalist_file.read_datalist(path)
    chosen = ["test"] if content.get("test") else [name for name in datalist_file.split_names(content) if content[name]]
    entries = [entry for split in chosen for entry in datalist_file.entries_of_split(content, split, path)]
    if not entries:
        raise FileNotFoundError(f"datalist {path} lists no scan in any split; add a list of cases as 'test'.")
    if broken := [str(entry) for entry in entries if not datalist_file.has_image(entry)]:
        raise ValueError(f"datalist {path} has entries without 'image': {listed(broken, 5, '; ')}; add or remove them.")
    images = [datalist_file.joined(os.path.dirname(path), entry["image"]) for entry in entries]
    readable = [series_folder(image) or image if os.path.isdir(image) else image for image in images]
    pairs = zip(entries, readable, strict=True)
    return [{"case": entry.get("case") or datalist_file.case_name(image), "image": image} for entry, image in pairs]
