"""A folder with exactly the files of one series, which is what MONAI's reader takes."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils.module import optional_import

from scripts.dicom.headers import AGAIN, DEFLATED, UNCOMPRESSED, Header, file_states, pydicom
from scripts.dicom.series import choose_series, find_series
from scripts.dicom.slice_numbers import SliceNumbers, name_of
from scripts.dicom.slice_stack import HOW_TO_CONVERT, TO_RAS, SliceStack, slice_stack

itk, _ = optional_import("itk")

SPLITTING_TAGS = ("SeriesNumber", "SeriesDate", "SequenceName", "SliceThickness")
"""What makes ITK take the images of one series for several."""
STEPS_PER_HU = 256  # of copies; 1 / 256 has few digits


def series_folder(folder: str, wanted: str | int | None = None) -> str | None:
    """Find the series to segment in a folder, check it, and return a folder that holds it alone; None without DICOM.

    That is the folder itself where nothing else is in it and ITK reads its files by the standard. Otherwise it is a
    temporary folder of the same name, which lasts as long as the process, with links to the files, or copies where ITK
    needs them written in another way. `wanted` is the UID or number of the series, None the only CT series.
    """
    return _checked(folder, wanted, file_states(folder))


@cache
def _checked(folder: str, wanted: str | int | None, state: tuple[tuple[str, int, int], ...]) -> str | None:
    """What :func:`series_folder` says: checking takes longer than reading, and a series is read many times."""
    found = find_series(folder)
    if not found:
        return None
    stack = slice_stack(choose_series(found, wanted, folder))
    files = {str(header.filename) for header in stack.headers}
    by_itk = folder.encode("utf-8", "replace").decode() == folder  # it takes no other names
    alone = by_itk and {os.path.join(folder, name) for name in os.listdir(folder)} == files
    if not alone or any(_has_to_be_copied(header, stack) for header in stack.headers):
        folder = _folder_of_links(stack, os.path.basename(os.path.normpath(folder)))
    _check_reader_agrees(folder, stack)
    return folder


def stack_in(folder: str) -> SliceStack:
    """The slices of a folder that holds one series alone."""
    return slice_stack(choose_series(find_series(folder), None, folder))


def _has_to_be_copied(header: Header, stack: SliceStack) -> bool:
    return bool(header.incomplete or header.PhotometricInterpretation == "MONOCHROME1" or stack.rescale_varies)


def _folder_of_links(stack: SliceStack, name: str) -> str:
    parent = tempfile.mkdtemp(prefix="series_")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    target = Path(parent) / name.encode("utf-8", "replace").decode()
    target.mkdir()
    for number, header in enumerate(stack.headers, start=1):
        link = target / f"{number:05d}.dcm"
        if _has_to_be_copied(header, stack):
            with pydicom.config.disable_value_validation():  # odd names and dates do not concern the reading
                _write_for_itk(header, link, stack.rescale_varies)
            continue
        try:
            link.symlink_to(Path(header.filename).resolve())
        except OSError:  # a file system or an account that may not make links
            shutil.copyfile(header.filename, link)
    return str(target)


def _write_for_itk(header: Header, path: Path, rescale_varies: bool) -> None:
    """Copy a slice with the same HU.

    The copy has preamble and transfer syntax, without which ITK may not read it, and is MONOCHROME2: ITK inverts
    MONOCHROME1. ITK takes the first slice's data type for all, so differing slices become HU in steps of 1 / 256.
    """
    image = pydicom.dcmread(header.filename, force=True)
    image.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    image.PhotometricInterpretation = "MONOCHROME2"
    for uid in ("SOPInstanceUID", "SOPClassUID"):  # the file's meta data cannot do without
        if not image.get(uid):
            place = [str(header.get(tag)) for tag in ("SeriesInstanceUID", "ImagePositionPatient")]
            made = pydicom.uid.generate_uid(entropy_srcs=place)  # the same in every run, so that copies have one digest
            setattr(image, uid, made if uid == "SOPInstanceUID" else header.SOPClassUID)
    image.save_as(path, enforce_file_format=True)
    if not rescale_varies:
        return
    with _decoding(header):
        stored = itk.array_from_image(itk.imread(str(path))).astype(np.float64)
    syntax = header.file_meta.TransferSyntaxUID
    words = np.rint(stored * STEPS_PER_HU).astype("<i4").view("<u2")  # OW: bytes are swapped within 16 bits
    image.PixelData = (words if syntax.is_little_endian else words.byteswap()).tobytes()
    image["PixelData"].VR = "OW"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 32, 32, 31, 1
    image.RescaleSlope, image.RescaleIntercept = str(1 / STEPS_PER_HU), "0"
    if syntax.is_encapsulated:
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)


@contextmanager
def _decoding(header: Header) -> Iterator[None]:
    """GDCM's errors name no file."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"DICOM file {header.filename} cannot be decoded; {AGAIN}.") from error


def _check_reader_agrees(folder: str, stack: SliceStack) -> None:
    """Refuse a series that ITK would take in part, or of which it would take another number than its header says."""
    finder = itk.GDCMSeriesFileNames.New()
    finder.SetUseSeriesDetails(True)
    finder.AddSeriesRestriction("0008|0021")
    try:
        finder.SetDirectory(folder)
    except RuntimeError as error:  # GDCM names no file
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"a DICOM file of the series in {folder} cannot be decoded ({reason}); {AGAIN}.") from error
    volumes = [list(finder.GetFileNames(series)) for series in finder.GetSeriesUIDs()]
    lost = sorted({os.path.join(folder, name) for name in os.listdir(folder)}.difference(*volumes))
    if lost:
        raise ValueError(f"DICOM file {os.path.realpath(lost[0])} cannot be decoded; {AGAIN}.")
    if len(volumes) > 1:
        counts = ", ".join(str(len(volume)) for volume in volumes)
        differing = [tag for tag in SPLITTING_TAGS if len({str(one.get(tag)) for one in stack.headers}) > 1]
        split = f"as {len(volumes)} volumes of {counts} images, by {', '.join(differing) or 'their headers'}"
        raise ValueError(f"the images in {folder} would be read {split}; {HOW_TO_CONVERT}.")
    for path, header, numbers in zip(volumes[0], stack.headers, stack.numbers, strict=True):
        _compare_values(path, header, numbers, stack.rescale_varies)
    _compare_grid(volumes[0], folder, stack)


def _compare_values(path: str, header: Header, numbers: SliceNumbers, rescale_varies: bool) -> None:
    """Compare the numbers of a slice with those of ITK, and decode what is compressed: its length says nothing."""
    reader = itk.GDCMImageIO.New()
    reader.SetFileName(path)
    with _decoding(header):
        reader.ReadImageInformation()
    rescale = (1 / STEPS_PER_HU, 0.0) if rescale_varies else (numbers.slope, numbers.intercept)
    pairs: dict[str, tuple[Any, Any]] = {
        "Columns and Rows": ((numbers.columns, numbers.rows), map(reader.GetDimensions, range(2))),
        "PixelSpacing": (numbers.spacing[::-1], map(reader.GetSpacing, range(2))),
        "ImagePositionPatient": (numbers.position, map(reader.GetOrigin, range(3))),
        "RescaleSlope and RescaleIntercept": (rescale, (reader.GetRescaleSlope(), reader.GetRescaleIntercept())),
    }
    for tag, (said, read) in pairs.items():
        used = tuple(read)
        if not np.allclose(said, used, rtol=1e-6, atol=1e-4 if tag == "ImagePositionPatient" else 1e-9):
            raise ValueError(f"{tag} of {name_of(header)} is {said}, and ITK reads {used}; {HOW_TO_CONVERT}.")
    if header.file_meta.TransferSyntaxUID not in (*UNCOMPRESSED, DEFLATED) and not rescale_varies:
        with _decoding(header):
            itk.imread(path)


def _compare_grid(files: list[str], folder: str, stack: SliceStack) -> None:
    """Compare where the corners of the volume lie, by the headers and by ITK."""
    reader = itk.ImageSeriesReader[itk.Image[itk.F, 3]].New(FileNames=files)
    reader.UpdateOutputInformation()
    grid = reader.GetOutput()
    used = np.eye(4)
    used[:3, :3] = itk.array_from_matrix(grid.GetDirection()) * np.array(grid.GetSpacing())
    used[:3, 3] = np.array(grid.GetOrigin())
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*stack.shape, 1]
    off = float(np.abs(corners @ (TO_RAS @ used - stack.affine).T).max())
    if off > min(stack.numbers[0].spacing):
        raise ValueError(f"the series in {folder} would be read up to {off:.1f} mm off its place; {HOW_TO_CONVERT}.")
