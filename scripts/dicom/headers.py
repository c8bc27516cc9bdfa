"""Headers of the DICOM files below a folder, without their pixels."""

from __future__ import annotations

import os
from typing import Any

from monai.utils.module import optional_import

from scripts.dicom.compressions import UNCOMPRESSED

pydicom, has_pydicom = optional_import("pydicom")

CT_IMAGE, ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
DIRECTORY = "1.2.840.10008.1.3.10"  # the table of contents of a disc
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "SeriesDate"),
    *("Modality", "ImageType", "SequenceName", "SliceThickness", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"),
    *("RescaleSlope", "RescaleIntercept"),
]

Header = Any
"""A ``pydicom.Dataset``; pydicom is optional, so its types are not named."""


def require_pydicom() -> None:
    """Raise ValueError with the command that installs pydicom, where it is missing."""
    if not has_pydicom:
        raise ValueError(
            "this folder has to be read as DICOM, which needs pydicom, and pydicom is not installed: run "
            "`python -m pip install -r requirements.txt` in the bundle's folder, or `python -m pip install pydicom`."
        )


def headers_below(folder: str) -> list[Header]:
    """Read the header of every DICOM file in a folder and its subfolders, sorted by path.

    Files of other kinds are passed over. ``missing_bytes`` of a header tells how much the file is too short.

    Raises:
        ValueError: a file begins like DICOM and breaks off in its header.
    """
    require_pydicom()
    headers = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            header = _header_of(os.path.join(parent, name))
            if header is not None:
                headers.append(header)
    return headers


def _header_of(path: str) -> Header | None:
    with open(path, "rb") as stream:
        try:
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=TAGS)
            header.missing_bytes = _missing_bytes(header, os.path.getsize(path) - stream.tell())
        except pydicom.errors.InvalidDicomError:
            return None  # no DICOM file, a picture or a text
        except Exception as error:  # the parser may fail anywhere in a damaged header
            raise ValueError(
                f"DICOM file {path} cannot be read ({type(error).__name__}: {error}); export or copy it again."
            ) from error
    header.filename = path
    if "SOPClassUID" in header:
        return header
    if header.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
        return None
    raise ValueError(f"DICOM file {path} cannot be read (it has no SOPClassUID); export or copy it again.")


def _missing_bytes(header: Header, left: int) -> int:
    """Bytes that the file lacks, if its pixels are stored one by one: what is compressed has no known length.

    Args:
        header: all that precedes the pixels.
        left: bytes behind it: tag, kind and length of the pixels (8 or 12 bytes), and the pixels.
    """
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax not in UNCOMPRESSED or "Rows" not in header:
        return 0
    values = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel", 1))
    values *= int(header.get("NumberOfFrames", 1) or 1)
    wanted = (8 if syntax.is_implicit_VR else 12) + values * int(header.get("BitsAllocated", 16)) // 8
    return max(0, wanted - left)
