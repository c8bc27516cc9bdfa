"""The one reader of volume files: NIfTI by its standard, NRRD, MetaImage and DICOM series by ITK."""

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from monai.data.image_reader import ITKReader
from numpy.typing import NDArray

from scripts.dataset.datalist_file import ITK_SUFFIXES, NIFTI_SUFFIXES
from scripts.dataset.nifti_header import Place, place_of, raw_header
from scripts.dataset.problems import Kind, Problem, VolumeError
from scripts.dicom.series_folder import series_folder
from scripts.files.result_files import HEADER_BYTES, voxels_beside

ORIENTATION = re.compile(rb"^(?:space directions:|(?:TransformMatrix|Rotation|Orientation)\s*=)", re.M | re.I)
# Of a NRRD, which way the axes of its space lead; of a MetaImage file, the voxel size.
SPACE = re.compile(rb"^(?:space:[ \t]*(?:left|right|[lr][ap]s\b)|ElementS(?:pacing|ize)\s*=)", re.M | re.I)
SPACE_UNITS = re.compile(rb"^space units:[ \t]*([^\r\n]+)", re.M | re.I)
FIRST_BYTES = {
    b"<": "it is a web page or XML",
    b"PK\x03\x04": "it is a ZIP archive: unpack it",
    b"/annex/objects": "it is a git-annex pointer: fetch the file with `git annex get`",
}


@dataclass(frozen=True, kw_only=True)
class VolumeFile(Place):
    """Voxels [x, y, z] as stored (after slope and intercept), and their place."""

    voxels: NDArray[Any]


def read_volume_file(path: str) -> VolumeFile:
    """Read one volume from a file, or from a folder of one DICOM series; VolumeError: what is wrong and what to do."""
    if not os.path.exists(path):
        raise VolumeError(Problem(Kind.MISSING_FILE, path))
    if os.path.isdir(path):
        path = series_folder(path) or path  # refuses a series that is no regular volume, which ITK does not
    elif not path.lower().endswith((*NIFTI_SUFFIXES, *ITK_SUFFIXES)):
        raise VolumeError(Problem(Kind.UNREADABLE, path, "not a kind of file that is read; of DICOM give the folder"))
    try:
        if not path.lower().endswith(NIFTI_SUFFIXES):
            return _read_by_itk(path)
        return nifti_volume(nib.loadsave.load(path), raw_header(path), path)
    except VolumeError:
        raise
    # Readers raise many kinds of exception for broken bytes; none of them names the file and a remedy.
    except Exception as error:
        raise VolumeError(_reason(path, error)) from None


def nifti_volume(image: Any, header: Any, path: str) -> VolumeFile:
    """The volume of a NIfTI image, by its header as it is stored."""
    if isinstance(image, nib.Cifti2Image):
        raise VolumeError(Problem(Kind.NOT_A_VOLUME, path, "CIFTI, values of a surface or of regions"))
    _refuse_other_shapes(image.get_data_dtype(), image.shape, path)
    place = place_of(header, path)
    voxels = np.asanyarray(image.dataobj).reshape(image.shape[:3], order="F")
    return VolumeFile(voxels=voxels, **vars(place))


def _read_by_itk(path: str) -> VolumeFile:
    warnings = [] if os.path.isdir(path) else _check_text_header(path)
    reader = ITKReader()
    image = reader.read(path)
    voxels, header = reader.get_data(image)
    kind = voxels.dtype if image.GetNumberOfComponentsPerPixel() == 1 else np.dtype("V")
    _refuse_other_shapes(kind, voxels.shape, path)
    return VolumeFile(
        voxels=np.asarray(voxels),
        affine=np.asarray(header["affine"], dtype=np.float64),
        header_spacing=tuple(float(size) for size in header["spacing"][:3]),
        taken_from="DICOM headers" if os.path.isdir(path) else "directions in the header",
        warnings=warnings,
    )


def _refuse_other_shapes(dtype: Any, shape: tuple[int, ...], path: str) -> None:
    """Refuse what is not one 3D volume; a fourth axis of length 1 does no harm."""
    kind = {"V": "RGB", "c": "complex"}.get(np.dtype(dtype).kind, "greyscale")
    if kind == "greyscale" and len(shape) >= 3 and min(shape) > 0 and set(shape[3:]) <= {1}:
        return
    found = f"{kind} with shape {tuple(shape)}, expected three axes of one channel"
    raise VolumeError(Problem(Kind.NOT_A_VOLUME, path, found))


def _check_text_header(path: str) -> list[Problem]:
    """What ITK does not say about a NRRD or MetaImage file: a missing file of voxels, units, no orientation."""
    with open(path, "rb") as stream:
        text = stream.read(HEADER_BYTES)
    text = text.partition(b"\n\n")[0] if text.startswith(b"NRRD") else text
    if (beside := voxels_beside(path)) and not beside.is_file():
        raise VolumeError(Problem(Kind.NO_VOXELS, path, f"{beside} does not exist"))
    units = SPACE_UNITS.search(text)
    if units and set(re.findall(rb'"([^"]*)"', units[1])) - {b"mm", b"", b"millimeter", b"millimeters"}:
        raise VolumeError(Problem(Kind.UNIT, path, f"space units are {units[1].decode('ascii', 'replace').strip()}"))
    stated = ORIENTATION.search(text) and SPACE.search(text)
    return [] if stated else [Problem(Kind.NO_ORIENTATION, path, "no voxel size or directions of the axes")]


def _reason(path: str, error: Exception) -> Problem:
    """Why a file cannot be read: by its first bytes, or else by the first line of the reader's message."""
    beginning = b""
    if not os.path.isdir(path):
        with open(path, "rb") as stream:
            beginning = stream.read(64)
    if beginning.startswith(b"version https://git-lfs"):
        return Problem(Kind.POINTER, path)
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    reason = f"{type(error).__name__}: {lines[-1 if 'itk' in lines[0].lower() else 0].strip()[:200]}"
    compressed, named_so = beginning.startswith(b"\x1f\x8b"), path.lower().endswith(".gz")
    if not beginning and not os.path.isdir(path):
        reason = "it is empty"
    elif path.lower().endswith(NIFTI_SUFFIXES) and compressed != named_so:
        reason = f"it is {'' if compressed else 'not '}compressed, against the ending of its name: rename it"
    for start, what in FIRST_BYTES.items():
        reason = what if beginning.lstrip().startswith(start) else reason
    return Problem(Kind.UNREADABLE, path, reason)


def voxel_hash(voxels: NDArray[Any]) -> str:
    """Hash shape and values of a volume, axes (x, y, z), whatever the data type and layout they are stored in."""
    digest = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    # Slice by slice: a float32 copy of a whole scan is twice its size, for each of the files read side by side.
    for index in range(voxels.shape[2]):
        digest.update(np.ascontiguousarray(voxels[:, :, index].T, dtype=np.float32).data)
    return digest.hexdigest()
