"""From a path that a user gives to the scans to segment: a file, a folder, a datalist or a DICOM series."""

from __future__ import annotations

import os

from monai.utils.module import optional_import

from scripts.dataset.datalist_file import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    case_name,
    entries_of_split,
    has_image,
    read_datalist,
    refuse_equal_names,
    split_names,
)

itk, _ = optional_import("itk")

VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)
ACCEPTED = "a volume (.nii, .nii.gz, .nrrd, .mha, .mhd), a folder of them, a datalist (.json) or a DICOM series folder"


def scan_inputs(path: str) -> list[dict[str, str]]:
    """List the scans to segment.

    Args:
        path: a volume file; a folder of volume files (not searched below its first level); a datalist or a folder with
            a ``dataset.json``, of which the ``test`` split is taken, or every entry if it has none; or a folder that
            holds one DICOM series.

    Returns:
        One ``{"case": name, "image": absolute path}`` per scan, sorted by file name (a datalist keeps its order).

    Raises:
        FileNotFoundError: there is nothing at ``path``, or no scan in it.
        ValueError: the file is of another kind, two scans have one name, or a folder holds several DICOM series.
    """
    absolute = os.path.abspath(os.path.expanduser(path))
    datalist = os.path.join(absolute, "dataset.json")
    if os.path.isfile(datalist):
        images = _images_of_datalist(datalist)
    elif os.path.isdir(absolute):
        images = _volumes_in(absolute) or _dicom_series_in(absolute)
    elif not os.path.isfile(absolute):
        raise FileNotFoundError(f"input '{path}' does not exist; expected {ACCEPTED}; mend the path.")
    elif absolute.lower().endswith(".json"):
        images = _images_of_datalist(absolute)
    elif absolute.lower().endswith(VOLUME_SUFFIXES):
        images = [absolute]
    else:
        raise ValueError(
            f"input '{path}' is not a kind of file that is read; expected {ACCEPTED}. "
            "For a DICOM file, give the folder of its series."
        )
    cases = [{"case": case_name(image), "image": image} for image in images]
    refuse_equal_names(cases, f"input '{path}'")
    return cases


def _volumes_in(folder: str) -> list[str]:
    # A dot starts the resource files that macOS leaves beside each volume.
    names = [name for name in os.listdir(folder) if name.lower().endswith(VOLUME_SUFFIXES) and name[0] != "."]
    return [os.path.join(folder, name) for name in sorted(names)]


def _dicom_series_in(folder: str) -> list[str]:
    """The folder itself, if exactly one DICOM series is in it.

    Of several series none is chosen for the user: a localizer or another contrast phase segmented in place of the
    scan that was meant would not be noticed.
    """
    counts = _slices_per_series(folder)
    if not counts:
        raise FileNotFoundError(f"folder {folder} holds no scan; expected {ACCEPTED}; {_what_is_there(folder)}.")
    if len(counts) > 1:
        listed = "; ".join(f"{series}: {slices} slices" for series, slices in counts.items())
        raise ValueError(
            f"folder {folder} holds {len(counts)} DICOM series, expected one ({listed}). "
            "Move the series to segment to a folder of its own and give that folder."
        )
    return [folder]


def _slices_per_series(folder: str) -> dict[str, int]:
    """Number of files per DICOM series, told apart with the settings by which MONAI's ITKReader reads a series."""
    if not any(os.path.isfile(os.path.join(folder, name)) for name in os.listdir(folder)):
        return {}
    finder = itk.GDCMSeriesFileNames.New()
    finder.SetUseSeriesDetails(True)
    finder.AddSeriesRestriction("0008|0021")
    finder.SetDirectory(folder)
    return {str(series): len(finder.GetFileNames(series)) for series in finder.GetSeriesUIDs()}


def _what_is_there(folder: str) -> str:
    names = sorted(os.listdir(folder))
    subfolders = [name for name in names if os.path.isdir(os.path.join(folder, name))]
    if subfolders:
        return f"subfolders are not searched, give one of them ({', '.join(subfolders[:5])})"
    return f"it contains {', '.join(names[:5])}" if names else "it is empty"


def _images_of_datalist(path: str) -> list[str]:
    content = read_datalist(path)
    chosen = ["test"] if content.get("test") else [split for split in split_names(content) if content[split]]
    entries = [entry for split in chosen for entry in entries_of_split(content, split, path)]
    if not entries:
        raise FileNotFoundError(f"datalist {path} lists no scan in any split; add a list of cases as 'test'.")
    broken = [str(entry) for entry in entries if not has_image(entry)]
    if broken:
        raise ValueError(
            f"datalist {path} has entries without 'image': {'; '.join(broken[:5])}; add it or remove them."
        )
    return [os.path.normpath(os.path.join(os.path.dirname(path), entry["image"])) for entry in entries]
