"""The checks of one case: what its image and its label must be before anything is trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from monai.utils.module import optional_import
from numpy.typing import NDArray

from scripts.dataset.label_values import values_of
from scripts.dataset.layouts.voc import voc_colours
from scripts.dataset.problems import Kind, Problem, VolumeError, listed
from scripts.dataset.scan_rules import INT16_MAX, INT16_MIN, check_scan_arrays, other_grid
from scripts.dataset.volume_file import VolumeFile, read_volume_file, voxel_hash

pillow, _ = optional_import("PIL.Image")


@dataclass
class CaseFindings:
    """What the check of one case found: reasons to refuse the dataset, and oddities that can be right."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    organ_voxels: dict[str, int] = field(default_factory=dict)  # of the annotated organs, if there is a readable label
    image_hash: str | None = None  # of the voxels; None if they cannot be read

    def refuse(self, kind: Kind, where: str, found: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, where, found))


def check_case(case: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str] = ()) -> CaseFindings:
    """Read image and label of a case of ``load_cases`` and check both; never raises for what a file holds."""
    findings = CaseFindings()
    if unknown := sorted({*case.get("annotated", ()), *case.get("label_values", ())} - set(organs)):
        findings.refuse(Kind.UNKNOWN_ORGAN, case["image"], ", ".join(unknown))
    if phases and case.get("phase") not in phases:
        found = f"phase is {case.get('phase')!r}, expected one of: {', '.join(phases)}"
        findings.refuse(Kind.PHASE, case["image"], found)
    image = _read(case["image"], findings)
    if image is not None:
        problems, warnings = check_scan_arrays(image.voxels, image.affine, case["image"], image.header_spacing)
        findings.problems += problems
        findings.warnings += image.warnings + warnings
        findings.image_hash = voxel_hash(image.voxels)
    label = _read(case["label"], findings) if case.get("label") else None
    if label is not None:
        grid = label.voxels.shape, label.affine
        if image is not None and (difference := other_grid(*grid, image.voxels.shape, image.affine)):
            findings.refuse(Kind.GRID, case["label"], difference)
        _check_label(label.voxels, case, findings)
    return findings


def _read(path: str, findings: CaseFindings) -> VolumeFile | None:
    try:
        return read_volume_file(path)
    except VolumeError as error:
        findings.problems.append(error.problem)
    except ValueError as error:  # a DICOM series that is no volume
        findings.refuse(Kind.UNREADABLE, path, str(error))
    return None


def _check_label(voxels: NDArray[Any], case: Mapping[str, Any], findings: CaseFindings) -> None:
    path, annotated = case["label"], case["annotated"]
    present, declared = count_values(voxels, case, findings)
    # Any organ of the dataset will do: the scan may end before those of the config, and was contoured all the same.
    if annotated and declared == {0}:
        findings.refuse(Kind.NO_CONTOUR, path, f"no voxel of any organ, annotated for: {', '.join(annotated)}")
    if stray := [organ for organ, count in present.items() if count and organ not in annotated]:
        findings.warnings.append(Problem(Kind.NOT_ANNOTATED, path, ", ".join(stray)))


def count_values(
    label: NDArray[Any], case: Mapping[str, Any], findings: CaseFindings
) -> tuple[dict[str, int], set[int]]:
    """Count the voxels of the config's organs in a label, and the declared values there are; refuse all others."""
    odd = label[~np.isfinite(label) | (np.rint(label) != label)] if label.dtype.kind == "f" else np.empty(0)
    if odd.size:  # of an interpolated label, whose values between two organs may be those of others
        findings.refuse(Kind.NOT_INTEGER, case["label"], f"{odd.size} voxels, such as {odd[0]:.9g}")
        return {}, set()
    # numpy sorts 16-bit integers several times faster than bytes, wider ones or floats.
    if label.dtype != np.int16 and label.min() >= INT16_MIN and label.max() <= INT16_MAX:
        label = label.astype(np.int16)
    values, counts = np.unique(label, return_counts=True)
    voxels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    own = {organ: values_of(value) for organ, value in case["label_values"].items()}
    known = {0, case.get("ignored_value", 0), *case.get("known_values", ()), *chain(*own.values())}
    if unknown := sorted(set(voxels) - known):
        found = f"{listed(unknown)}, expected among: {', '.join(map(str, sorted(known)))}"
        findings.refuse(Kind.UNKNOWN_VALUE, case["label"], found)
    present = {organ: sum(voxels.get(value, 0) for value in its_own) for organ, its_own in own.items()}
    findings.organ_voxels = {organ: present[organ] for organ in case.get("annotated", present) if organ in present}
    return present, known & set(voxels)


def check_photograph(case: Mapping[str, Any], organs: Sequence[str], phases: Sequence[str] = ()) -> CaseFindings:
    """Read photograph and mask of a case and check both, as PASCAL VOC means them; photographs have no phases."""
    findings = CaseFindings()
    image = _read_photograph(case["image"], findings)
    if image is not None:
        if image.mode != "RGB":
            findings.refuse(Kind.NOT_RGB, case["image"], f"mode {image.mode}, expected RGB")
        findings.image_hash = voxel_hash(np.atleast_3d(np.asarray(image)))
    mask = _read_photograph(case["label"], findings) if case.get("label") else None
    if mask is not None:
        if image is not None and image.size != mask.size:
            width, height = image.size
            found = f"{mask.size[0]} x {mask.size[1]} pixels, expected the photograph's {width} x {height}"
            findings.refuse(Kind.GRID, case["label"], found)
        _check_mask(mask, case, findings)
    return findings


def _read_photograph(path: str, findings: CaseFindings) -> Any:
    try:
        with pillow.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        findings.refuse(Kind.MISSING_FILE, path)
    # Readers raise many kinds of exception for broken bytes, and the other files are still to be checked.
    except Exception as error:
        findings.refuse(Kind.UNREADABLE, path, f"{type(error).__name__}: {str(error)[:200]}")
    return None


def _check_mask(mask: Any, case: Mapping[str, Any], findings: CaseFindings) -> None:
    if mask.mode not in ("P", "L"):
        found = f"mode {mask.mode}, expected P (palette) or L (greyscale)"
        findings.refuse(Kind.NOT_INDICES, case["label"], found)
        return
    _, declared = count_values(np.asarray(mask), case, findings)
    # An editor that saves a mask anew may renumber its colours: the colours tell.
    palette, expected = mask.getpalette("RGB"), voc_colours()
    for value in sorted(declared if case.get("voc_palette") and mask.mode == "P" else ()):
        colour = tuple(palette[3 * value : 3 * value + 3])
        if colour != expected[value]:
            found = f"index {value} has the colour {colour}, expected {expected[value]}"
            findings.refuse(Kind.PALETTE, case["label"], found)
            return
