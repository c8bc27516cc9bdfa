"""Where a NIfTI header puts its voxels, by the standard, and the header of a label map that is to lie there too.

``sform_code`` and ``qform_code`` decide: a code of 0 says nothing, whatever numbers stand beside it. Where both count
the sform is taken, as nibabel does; ITK takes the qform of some such files, so the two have to agree. Where none counts
only the voxel sizes are known, and the first axis is taken to run from right to left, as nibabel does.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.dataset.problems import Kind, Problem, VolumeError

Affine = NDArray[np.float64]

MM_OF_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # unknown (nibabel writes this for mm), metres, mm, micrometres
UNIT_NAMES = {1: "metres", 3: "micrometres"}
# Voxels by which sform and qform may differ at a corner of the scan (our choice): refused above, named above.
REFUSED_DIFFERENCE, NAMED_DIFFERENCE = 0.5, 0.002
PLACE_FIELDS = (
    "xyzt_units", "sform_code", "srow_x", "srow_y", "srow_z",
    "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the voxels of a file lie, and warnings about it."""

    affine: Affine  # 4 x 4, voxel index to RAS position in mm
    header_spacing: tuple[float, ...]  # voxel size in mm by the header's own field, which the affine may contradict
    taken_from: str  # fields of the header that give the affine
    warnings: list[Problem] = field(default_factory=list)


def raw_header(path: str) -> Any:
    """NIfTI-1 or NIfTI-2 header as it is stored: loading puts 1 mm for a spacing of 0 and drops a negative sign."""
    with nib.openers.ImageOpener(path) as stream:
        size = int.from_bytes(stream.read(4), "little")
        stream.seek(0)
        swapped = int.from_bytes(size.to_bytes(4, "little"), "big")
        header_class: Any = nib.Nifti2Header if 540 in (size, swapped) else nib.Nifti1Header
        return header_class.from_fileobj(stream, check=False)


def place_of(header: Any, path: str) -> Place:
    """The place that a raw header gives the first three axes; VolumeError: forms that disagree, or an unknown unit."""
    unit = int(header["xyzt_units"]) & 7
    if unit not in MM_OF_UNIT:
        raise VolumeError(Problem(Kind.UNIT, path, f"xyzt_units has the unknown unit {unit}"))
    scale = np.diag([*[MM_OF_UNIT[unit]] * 3, 1.0])
    forms = {"sform": header.get_sform, "qform": header.get_qform}
    codes = {name: int(header[f"{name}_code"]) for name in forms}
    try:
        chosen = [name for name, code in codes.items() if code > 0]
        places = [(f"{name} (code {codes[name]})", np.asarray(forms[name](), np.float64)) for name in chosen]
    except (ValueError, nib.spatialimages.HeaderDataError) as error:
        raise VolumeError(Problem(Kind.SPACING, path, f"the qform is not valid: {error}")) from None
    warnings = [] if unit not in UNIT_NAMES else [Problem(Kind.CONVERTED, path, f"xyzt_units says {UNIT_NAMES[unit]}")]
    if len(places) == 2:
        warnings += _difference(places[0][1], places[1][1], header, path)
    if not places:
        warnings.append(Problem(Kind.NO_ORIENTATION, path))
        places = [("voxel sizes, as both codes are 0", np.asarray(header.get_base_affine(), dtype=np.float64))]
    taken_from, affine = places[0]
    spacing = tuple(float(size) * MM_OF_UNIT[unit] for size in header["pixdim"][1:4])
    return Place(affine=scale @ affine, header_spacing=spacing, taken_from=taken_from, warnings=warnings)


def _difference(sform: Affine, qform: Affine, header: Any, path: str) -> list[Problem]:
    """Warn about forms that differ a little; raise where they differ by more.

    What a qform loses of a place in any case does not count: near half a turn its float32 leave an angle of 0.001.
    """
    if not np.linalg.det(sform):
        raise VolumeError(Problem(Kind.SPACING, path, "the sform is not valid, an axis has no length"))
    ends = np.array([[*corner, 1.0] for corner in product(*((0.0, float(size - 1)) for size in header["dim"][1:4]))])
    stored = header.copy()
    stored.set_qform(sform, 1)
    differences = [ends @ (form - qform).T for form in (sform, stored.get_qform())]
    distance = min(float(np.linalg.norm(difference, axis=1).max()) for difference in differences)
    voxels = distance / max(float(np.linalg.norm(sform[:3, :3], axis=0).min()), 1e-9)
    found = f"a corner lies {voxels:.3g} voxels apart"
    # Negated, so that a NaN in either is refused as well.
    if not voxels <= REFUSED_DIFFERENCE:
        raise VolumeError(Problem(Kind.TWO_PLACES, path, f"{found}, expected at most {REFUSED_DIFFERENCE:g}"))
    named = voxels > NAMED_DIFFERENCE
    return [Problem(Kind.ALMOST, path, f"sform and qform: {found}, the sform is taken")] if named else []


def label_header(path: str, shape: tuple[int, ...]) -> Any:
    """Header of a label map on the grid of a NIfTI scan: the scan's sform, qform, codes and unit, to the bit.

    So every viewer puts the two at one place. Nothing else is taken over: texts in a header may name the patient.
    """
    scan = raw_header(path)
    header: Any = type(scan)()  # NIfTI-1 or NIfTI-2
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    for name in PLACE_FIELDS:
        header[name] = scan[name]
    header["pixdim"][:4] = scan["pixdim"][:4]
    return header
