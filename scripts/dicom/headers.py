"""Headers of the DICOM files below a folder, without their pixels, and the files that should have one and have none."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from monai.utils.module import optional_import

from scripts.files.result_files import parts_of

pydicom, has_pydicom = optional_import("pydicom")

CT_IMAGE, ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
DIRECTORY = "1.2.840.10008.1.3.10"  # the table of contents of a disc
BASE = "1.2.840.10008.1.2"
UNCOMPRESSED = frozenset((BASE, f"{BASE}.1", f"{BASE}.2"))
"""Implicit and explicit little endian, explicit big endian: the pixels lie in the file one by one."""
DEFLATED = f"{BASE}.1.99"
READABLE = UNCOMPRESSED | {DEFLATED, f"{BASE}.5", *(f"{BASE}.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))}
"""Besides: RLE Lossless (5); JPEG Baseline, Extended and Lossless (50 to 70); JPEG-LS (80, 81); JPEG 2000 (90, 91)."""
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "SeriesDate"),
    *("PatientID", "Modality", "ImageType", "SequenceName", "SliceThickness", "NumberOfFrames", "AcquisitionNumber"),
    *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "FrameOfReferenceUID", "ManufacturerModelName"),
]
PREAMBLE = 128  # bytes before the letters DICM
BARE_START = re.compile(rb"\x02\0\0\0|\x08\0[\0-\x18]\0|\0\x08\0[\0-\x18]", re.DOTALL)
"""First element of a file without preamble: group 2, or a low one of group 8 in either byte order."""
TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")
DICOM_SUFFIXES = {".dcm", ".dicom", ".dic", ".ima"}
NO_SLICES = {"dicomdir", "readme", "license", "version"}
PIXEL_TAGS = (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")  # either byte order
UNDEFINED_LENGTH = b"\xff\xff\xff\xff"
AGAIN = "export or copy it again"

Header = Any
"""A ``pydicom.Dataset``; pydicom is optional, so its types are not named.

Three attributes are added: ``filename``; ``pixel_start``, the bytes before the tag of the pixels; and ``incomplete``,
whether preamble or transfer syntax are missing, without which other readers do not find their way.
"""


def obstacle(syntax: Any) -> str:
    """Why pixels of a transfer syntax, a ``pydicom.uid.UID``, are not read and what to do; empty if they are read."""
    if syntax in READABLE:
        return ""
    known = "" if syntax.name == syntax else f"{syntax.name}, "
    return (
        f"compressed in a way that is not decoded ({known}transfer syntax {syntax}); export it again uncompressed "
        "(Explicit VR Little Endian)"
    )


def files_below(folder: str) -> Iterator[tuple[str, list[str]]]:
    """A folder and its subfolders, also linked ones, each once, with the names of their files; none that is hidden."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        seen.add(os.path.realpath(parent))
        inside = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in inside if os.path.realpath(os.path.join(parent, name)) not in seen]
        yield parent, sorted(name for name in names if not name.startswith("."))


def file_states(path: str) -> tuple[tuple[str, int, int], ...]:
    """Path, size and time of a file with its voxels, or of all below a folder: equal as long as nobody touches one."""
    below = files_below(path) if os.path.isdir(path) else []
    paths = [os.path.join(parent, name) for parent, names in below for name in names] or map(str, parts_of(path))
    status = {one: os.stat(one) for one in paths if os.path.isfile(one)}
    return tuple((one, found.st_size, found.st_mtime_ns) for one, found in status.items())


def _refuse(error: OSError) -> None:
    raise ValueError(f"folder {error.filename} cannot be opened ({error.strerror}): give one that you may read.")


def headers_below(folder: str, subfolders: bool = True) -> tuple[list[Header], dict[str, str]]:
    """Read the header of every DICOM file in a folder (and its subfolders), sorted by path; others are passed over.

    Returned too are files that look like a slice and cannot be read, with the reason: they begin like DICOM, their name
    ends like that of a DICOM file, or it is like that of a slice in the same folder and they are no text.
    """
    if not has_pydicom:
        raise ValueError("DICOM is read by pydicom, which is not installed: `python -m pip install pydicom`.")
    headers: list[Header] = []
    unreadable: dict[str, str] = {}
    for parent, names in islice(files_below(folder), None if subfolders else 1):
        read = {name: _header_of(os.path.join(parent, name)) for name in names}
        slices = [name for name, found in read.items() if not isinstance(found, str)]
        for name, found in read.items():
            path = os.path.join(parent, name)
            if not isinstance(found, str):
                headers.append(found)
            elif _begins_like_dicom(path) or _named_like_a_slice(name, slices, path):
                unreadable[path] = found
    return [header for header in headers if header.get("SOPClassUID") != DIRECTORY], unreadable


def _header_of(path: str) -> Header | str:
    """The header, or why there is none."""
    try:
        if not os.path.isfile(path):
            return "it is no file, or a link to nothing"
        if not os.path.getsize(path):
            return "it has 0 bytes"
        if not _begins_like_dicom(path):
            return "it does not begin like DICOM"
        with open(path, "rb") as stream:
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=TAGS, force=True)
            return _completed(header, stream, path)
    except Exception as error:  # the parser may fail anywhere in a damaged header
        return f"{type(error).__name__}: {error}"


def _completed(header: Header, stream: BinaryIO, path: str) -> Header | str:
    header.filename, header.pixel_start = path, stream.tell()
    if header.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
        header.SOPClassUID = DIRECTORY
    if not header.get("SOPClassUID"):
        return "it has no SOPClassUID"
    frames = header.get("NumberOfFrames")
    if frames is not None and not str(frames).strip().isdecimal():
        return f"its NumberOfFrames is '{frames}'"
    syntax = header.file_meta.get("TransferSyntaxUID")
    pixels = stream.read(12)  # tag, kind and length
    image = header.SOPClassUID == CT_IMAGE or "SeriesInstanceUID" not in header  # the latter is cut off early
    if image and syntax != DEFLATED and pixels[:4] not in PIXEL_TAGS:
        return "it ends before its pixels"
    header.incomplete = header.preamble is None or syntax is None
    if syntax is None:
        if UNDEFINED_LENGTH in pixels:
            return "its pixels are compressed, and it does not say how"
        implicit, little = header.original_encoding
        plain = BASE if implicit else f"{BASE}.1"
        header.file_meta.TransferSyntaxUID = plain if little else f"{BASE}.2"
    return header


def _begins_like_dicom(path: str) -> bool:
    start = _start(path)
    begins = start[PREAMBLE : PREAMBLE + 4] == b"DICM" or start[:4] == b"DICM" or BARE_START.match(start)
    return bool(begins) and os.path.basename(path).lower() not in NO_SLICES


def _start(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(1000)
    except OSError:
        return b""


def _named_like_a_slice(name: str, slices: list[str], path: str) -> bool:
    if {suffix.lower() for suffix in Path(name).suffixes} & DICOM_SUFFIXES:
        return True
    if name.lower() in NO_SLICES or _ending(name) not in map(_ending, slices):
        return False
    alike = re.sub(r"\d+", "#", name) in (re.sub(r"\d+", "#", one) for one in slices)
    return alike or not TEXT.fullmatch(_start(path))


def _ending(name: str) -> str:
    """Suffix in small letters; none where it is a number, as in names that are UIDs."""
    suffix = Path(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix
