"""The kinds of problem that a dataset can have, each with its remedy, and the one report that lists them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

MAX_REPORTED_PROBLEMS = 50


class Kind(Enum):
    """A kind of problem or warning: its title says what is wrong, its remedy how to fix it."""

    def __init__(self, title: str, remedy: str) -> None:
        self.title, self.remedy = title, remedy

    MISSING_FILE = "file does not exist", "put it there, fix its path in the datalist, or remove the case"
    UNREADABLE = "file cannot be read", "copy or export it again, it is truncated or not an image"
    POINTER = "Git LFS pointer in place of the file", "fetch the file itself with `git lfs pull`"
    NO_VOXELS = "header without its file of voxels", "copy that file beside the header"
    NOT_A_VOLUME = "not one 3D volume of one channel", "save a single 3D greyscale volume per case"
    TWO_PLACES = "sform and qform that disagree", "find out which one is right, and set the code of the other one to 0"
    SHEARED = "axes that are not at right angles", "resample it to axes at right angles (dcm2niix does, from the DICOM)"
    UNIT = "unit of length other than mm", "write the voxel size and the position in mm"
    SPACING = "impossible spacing", "write the true voxel size in mm to the header (pixdim and affine)"
    NOT_FINITE = "NaN or infinite voxels", "replace them, by -1000 HU where nothing was scanned, and save again"
    NOT_HU = "intensities are not Hounsfield units", "export the CT again in HU, not windowed, scaled or as 8 bit"
    GRID = "label and image are on different grids", "resample the label to its image's grid (nearest neighbour)"
    NOT_INTEGER = "label values that are no integers", "save the label as uint8, resampled by nearest neighbour"
    UNKNOWN_VALUE = "label values that the dataset does not declare", "add them to 'labels', or set them to 0"
    NO_CONTOUR = "label without any organ", "contour it, fix 'annotated', or remove 'label' to use it unlabelled"
    UNKNOWN_ORGAN = "organs that the config does not list", "load the cases with the organs of the config"
    PHASE = "contrast phase missing or unknown", "set 'phase' of the case to a listed one, or empty the config's phases"
    DUPLICATE = "one scan listed as several cases", "keep it in one split only, or its score says nothing"
    PATIENT = "one patient in several splits", "keep all scans of a patient in one split, or its score says nothing"
    NO_CASES = "too few cases", "add labelled cases, fix the split's name, or lower the folds"
    NO_EXAMPLE = "organ without a training example", "add a case that shows it, fix 'annotated', or drop the organ"
    NOT_RGB = "photograph that is not RGB", "save it as 8-bit RGB"
    NOT_INDICES = "mask that does not hold class indices", "save it as a palette PNG of class indices, not of colours"
    PALETTE = "mask with another palette than VOC's", "its indices may be renumbered: take the original file"
    # The following are logged, not refused: they can be right.
    NO_AIR = "no air in the image", "fine if cropped to the body; if it is HU + 1024, subtract 1024; MR is not read"
    SHIFTED = "values that look like HU + 1024", "subtract 1024, or write that intercept to the header"
    SMALL = "scan of less than 100 mm", "fine if cropped; check the voxel size in mm"
    CONVERTED = "lengths converted to mm", "check the size of the scan, or save it in mm"
    ALMOST = "header that contradicts itself a little", "fine if rounded; viewers may place it by the other number"
    NO_ORIENTATION = "header has neither qform nor sform", "make sure that left and right are not swapped"
    NOT_ANNOTATED = "organ has voxels but is not in 'annotated'", "these are not trained on; add it if it is contoured"
    ONE_EXAMPLE = "organ in a single training case", "the fold that predicts this case never saw it; add cases"
    UNUSED_PHASE = "contrast phase without a training case", "remove it from the phases if that is as it should be"


@dataclass(frozen=True)
class Problem:
    """One finding: its kind, the file (or split, or organ) it is about, and what was found against what is expected."""

    kind: Kind
    where: str
    found: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.found}" if self.found else self.where


class VolumeError(ValueError):
    """A file that is not read, or a scan that is not segmented: one sentence with file, finding and remedy."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(sentence(problem))


def sentence(problem: Problem) -> str:
    """A single problem or warning for people: file, kind, what was found, what to do."""
    found = f" ({problem.found})" if problem.found else ""
    return f"{problem.where}: {problem.kind.title}{found}; {problem.kind.remedy}."


class DatasetError(ValueError):
    """The dataset cannot be trained on; the message lists every problem by kind, ``problems`` holds them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(report(self.problems))


def listed(items: Sequence[object], limit: int = 10, separator: str = ", ") -> str:
    """The first few items in one text, and how many more there are: ``a, b, ... and 3 more``."""
    more = f"{separator}... and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(map(str, items[:limit])) + more


def by_kind(problems: Sequence[Problem]) -> dict[Kind, list[Problem]]:
    """Group problems by kind, in the order in which the kinds are declared."""
    groups = {kind: [problem for problem in problems if problem.kind is kind] for kind in Kind}
    return {kind: group for kind, group in groups.items() if group}


def report(problems: Sequence[Problem], limit: int = MAX_REPORTED_PROBLEMS) -> str:
    """Format problems, one line each below the title and remedy of their kind, at most ``limit`` such lines in all.

    So that a frequent kind hides no rare one, kinds are served from the rarest on.
    """
    groups = by_kind(problems)
    shown: dict[Kind, int] = {}
    left = limit
    for served, kind in enumerate(sorted(groups, key=lambda kind: len(groups[kind]))):
        shown[kind] = min(len(groups[kind]), max(1, left // (len(groups) - served)))
        left -= shown[kind]
    lines = [f"The dataset cannot be used, it has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"]
    for kind, group in groups.items():
        lines.append(f"{kind.title} ({len(group)}). To fix: {kind.remedy}.")
        lines.extend(f"  - {problem}" for problem in group[: shown[kind]])
        if len(group) > shown[kind]:
            lines.append(f"  ... and {len(group) - shown[kind]} more")
    return "\n".join(lines)
