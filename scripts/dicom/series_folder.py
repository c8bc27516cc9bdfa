"""A folder with exactly the files of one series, which is what MONAI's reader takes."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from monai.utils.module import optional_import

from scripts.dicom.headers import Header
from scripts.dicom.series import choose_series, find_series
from scripts.dicom.slice_stack import HOW_TO_CONVERT, SliceStack, slice_stack

itk, _ = optional_import("itk")

SPLITTING_TAGS = ("SeriesNumber", "SeriesDate", "SequenceName", "SliceThickness")
"""What makes ITK take the images of one series for several."""


def series_folder(folder: str, wanted: str | int | None = None) -> str | None:
    """Find the series to segment in a folder, check it, and return a folder that holds it alone.

    That is the folder itself where nothing else is in it, and otherwise a temporary folder of the same name with links
    to the files, which lasts as long as the process.

    Args:
        folder: searched with its subfolders.
        wanted: UID or number of the series; None: the only CT series.

    Returns:
        The folder to read, or None if there is no DICOM file.

    Raises:
        ValueError: no series or several could be meant, or the series is no regular volume.
    """
    found = find_series(folder)
    if not found:
        return None
    stack = slice_stack(choose_series(found, wanted, folder))
    files = [str(header.filename) for header in stack.headers]
    alone = {os.path.join(folder, name) for name in os.listdir(folder)} == set(files)
    readable = folder if alone else _folder_of_links(files, os.path.basename(os.path.normpath(folder)))
    _check_reader_agrees(readable, stack)
    return readable


def stack_in(folder: str) -> SliceStack:
    """The slices of a folder that holds one series alone."""
    return slice_stack(choose_series(find_series(folder), None, folder))


def _folder_of_links(files: Sequence[str], name: str) -> str:
    parent = tempfile.mkdtemp(prefix="series_")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    target = Path(parent) / name
    target.mkdir()
    for number, file in enumerate(files, start=1):
        link = target / f"{number:05d}.dcm"
        try:
            link.symlink_to(Path(file).resolve())
        except OSError:  # a file system or an account that may not make links
            shutil.copyfile(file, link)
    return str(target)


def _check_reader_agrees(folder: str, stack: SliceStack) -> None:
    """Refuse a series of which the reader would take only a part: it tells series apart by more than the UID."""
    finder = itk.GDCMSeriesFileNames.New()
    finder.SetUseSeriesDetails(True)
    finder.AddSeriesRestriction("0008|0021")
    try:
        finder.SetDirectory(folder)
    except RuntimeError as error:  # GDCM names no file
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"a DICOM file of the series in {folder} cannot be decoded ({reason}); export or copy it again."
        ) from error
    volumes = [set(finder.GetFileNames(series)) for series in finder.GetSeriesUIDs()]
    lost = sorted({os.path.join(folder, name) for name in os.listdir(folder)}.difference(*volumes))
    if lost:
        raise ValueError(f"DICOM file {os.path.realpath(lost[0])} cannot be decoded; export or copy it again.")
    if len(volumes) > 1:
        counts = ", ".join(str(len(volume)) for volume in volumes)
        differing = [tag for tag in SPLITTING_TAGS if _differs(stack.headers, tag)]
        raise ValueError(
            f"the images in {folder} would be read as {len(volumes)} volumes of {counts} images, since they differ in "
            f"{', '.join(differing) or 'their headers'}; {HOW_TO_CONVERT}."
        )


def _differs(headers: Sequence[Header], tag: str) -> bool:
    return len({str(header.get(tag)) for header in headers}) > 1
