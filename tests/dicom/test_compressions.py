"""Compressions that lose something are read as another decoder reads them, near to the scan; others are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from ct_series import AXIAL, write_ct_series
from monai.transforms import LoadImage
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from scripts.dataset.inference_inputs import scan_inputs
from scripts.dicom.headers import obstacle

Pixels = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Compression:
    """A transfer syntax with an encoder and a decoder that have nothing to do with the reader.

    Attributes:
        bits: stored bits of a pixel.
        slope: HU of one stored step.
        mean_error: HU, measured on the scan below and rounded up.
        largest_error: likewise.
    """

    syntax: uid.UID
    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes], Pixels]
    mean_error: float
    largest_error: float
    bits: int = 16
    slope: int = 1


def jpeg(syntax: uid.UID, mean_error: float, largest_error: float, bits: int = 12, **how: Any) -> Compression:
    encode = partial(imagecodecs.jpeg8_encode, bitspersample=bits, **how)
    slope = 10 if bits == 8 else 1  # 256 steps for the range of a scan
    return Compression(syntax, encode, imagecodecs.jpeg8_decode, mean_error, largest_error, bits, slope)


COMPRESSIONS = [
    jpeg(uid.JPEGBaseline8Bit, 9.0, 70.0, bits=8, level=95),
    jpeg(uid.JPEGExtended12Bit, 1.0, 10.0, level=95),
    jpeg(uid.JPEGLossless, 0.0, 0.0, bits=16, lossless=True, predictor=6),
    Compression(
        uid.JPEGLSNearLossless,
        partial(imagecodecs.jpegls_encode, level=3),
        imagecodecs.jpegls_decode,
        3.0,
        3.0,  # what the encoder promises
    ),
    Compression(
        uid.JPEG2000,
        partial(imagecodecs.jpeg2k_encode, level=90, codecformat="j2k", reversible=False),
        imagecodecs.jpeg2k_decode,
        2.0,
        15.0,
    ),
]
by_name = pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda one: one.syntax.keyword)


def scan() -> NDArray[np.int16]:
    """A smooth body with an edge of bone in air: HU [column, row, slice]."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (64, 48, 4)), indexing="ij")
    body = np.where(x**2 + y**2 < 0.7, 40 + 60 * np.sin(6 * x) * np.cos(5 * y) + 20 * z, -1000)
    return np.where((x - 0.3) ** 2 + y**2 < 0.03, 700, body).round().astype(np.int16)


def write_compressed(folder: Path, compression: Compression) -> Path:
    """The scan as a series, every slice compressed."""
    for path in write_ct_series(folder, scan()).iterdir():
        one = pydicom.dcmread(path)
        pixels = np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns) / compression.slope
        stored = pixels.round().astype("u1" if compression.bits == 8 else "u2")
        one.BitsAllocated, one.BitsStored, one.HighBit = 8 * stored.itemsize, compression.bits, compression.bits - 1
        one.PixelRepresentation, one.RescaleSlope = 0, compression.slope
        put_pixels(one, compression.encode(stored), compression.syntax)
        one.save_as(path)
    return folder


def put_pixels(one: pydicom.Dataset, encoded: bytes, syntax: uid.UID) -> None:
    one.PixelData = encapsulate([encoded])
    one["PixelData"].VR = "OB"
    one.file_meta.TransferSyntaxUID = syntax


def decoded(folder: Path, compression: Compression) -> Any:
    """The series by the other decoder: HU [column, row, slice]."""
    images = sorted(map(pydicom.dcmread, folder.iterdir()), key=lambda one: one.InstanceNumber)
    frames = [next(generate_frames(one.PixelData, number_of_frames=1)) for one in images]
    pixels = np.stack([compression.decode(frame).T for frame in frames], axis=2).astype(float)
    return pixels * compression.slope + float(images[0].RescaleIntercept)


@by_name
def test_a_series_is_read_as_another_decoder_reads_it_and_near_to_the_scan(
    compression: Compression, tmp_path: Path
) -> None:
    folder = write_compressed(tmp_path / "ct", compression)
    (case,) = scan_inputs(str(folder))
    found: Any = LoadImage(image_only=True)(case["image"])
    np.testing.assert_allclose(found.affine, AXIAL, atol=1e-4)
    one_step = compression.slope * (compression.mean_error > 0)  # decoders may round a transform differently
    np.testing.assert_allclose(found.numpy(), decoded(folder, compression), rtol=0, atol=one_step)
    error = np.abs(found.numpy() - scan())
    assert error.max() <= compression.largest_error
    assert error.mean() <= compression.mean_error
    assert (error.max() > 0) == (compression.largest_error > 0), "nothing was lost: not the compression that was meant"


@by_name
def test_a_file_that_is_cut_off_is_refused_and_not_filled_with_grey(compression: Compression, tmp_path: Path) -> None:
    folder = write_compressed(tmp_path / "ct", compression)
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{path.name} cannot be decoded; export or copy it again"):
        scan_inputs(str(folder))


@by_name
def test_a_damaged_picture_in_a_whole_file_is_refused_by_name(compression: Compression, tmp_path: Path) -> None:
    folder = write_compressed(tmp_path / "ct", compression)
    path = sorted(folder.iterdir())[1]
    one = pydicom.dcmread(path)
    frame = next(generate_frames(one.PixelData, number_of_frames=1))
    put_pixels(one, frame[: len(frame) // 4 * 2], compression.syntax)
    one.save_as(path)
    with pytest.raises(ValueError, match=rf"{path.name} cannot be decoded; export or copy it again"):
        scan_inputs(str(folder))


@pytest.mark.parametrize("syntax", [uid.HTJ2K, uid.JPEG2000MC, uid.MPEG2MPML], ids=lambda syntax: syntax.keyword)
def test_another_compression_is_refused_by_name_with_the_remedy(syntax: uid.UID, tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", scan())
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        put_pixels(one, one.PixelData, syntax)
        one.save_as(path)
    with pytest.raises(ValueError) as refusal:
        scan_inputs(str(folder))
    assert f"not decoded ({syntax.name}, transfer syntax {syntax}); export it again uncompressed" in str(refusal.value)


def test_a_syntax_that_no_standard_knows_is_refused_by_its_uid(tmp_path: Path) -> None:
    folder = write_ct_series(tmp_path / "ct", scan())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.826.0.1.3680043\0"))
    with pytest.raises(ValueError, match=r"not decoded \(transfer syntax 1\.2\.826\.0\.1\.3680043\); export it again"):
        scan_inputs(str(folder))


def test_every_syntax_of_the_standard_is_read_or_refused_with_a_reason() -> None:
    read = {syntax.keyword for syntax in uid.AllTransferSyntaxes if not obstacle(syntax)}
    assert read == {
        *("ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian"),
        *("RLELossless", "JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1"),
        *("JPEGLSLossless", "JPEGLSNearLossless", "JPEG2000Lossless", "JPEG2000"),
    }
