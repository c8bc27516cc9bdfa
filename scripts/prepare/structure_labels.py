"""Label maps from structures: RTSTRUCT and DICOM-SEG files of DICOM series, by names that the user gives.

    --structures "left_parotid=Parotid L,Parotis links,par*_l" spinal_cord=SpinalCord

The first spelling that a structure set has is taken; case does not matter, * and ? stand for other letters. What
no spelling fits is listed, never guessed.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from scripts.dataset.datalist_file import read_datalist
from scripts.dataset.problems import listed
from scripts.dicom.series import choose_series, find_series
from scripts.dicom.slice_stack import SliceStack, slice_stack
from scripts.dicom.structure_reader import StructureFile, Structures, find_structure_files
from scripts.outputs.scan_outputs import write_nifti
from scripts.prepare.split import ScanEntry

FOLDER = "structure_labels"  # below the output folder: the label maps
MAX_LISTED = 30
logger = logging.getLogger(__name__)

Spellings = Mapping[str, Sequence[str]]


def read_spellings(given: Sequence[str]) -> dict[str, list[str]]:
    """Organ -> names of its structure, from ``organ=name,name`` arguments or from a JSON file."""
    if len(given) == 1 and given[0].lower().endswith(".json"):
        content = read_datalist(given[0])
        if odd := [organ for organ, names in content.items() if not isinstance(names, (str, list))]:
            raise ValueError(f"{given[0]}: {odd[0]} has no list of names of its structure: write them in [ ].")
        return {organ: [names] if isinstance(names, str) else names for organ, names in content.items()}
    pairs = [argument.partition("=") for argument in given]
    spellings = {organ: [name.strip() for name in names.split(",") if name.strip()] for organ, _, names in pairs}
    if len(spellings) < len(pairs) or not all(organ and names for organ, names in spellings.items()):
        raise ValueError(
            "--structures says once for each organ what its structure may be called, such as 'left_parotid=Parotid L,"
            f'par*_l\', or names a JSON file with {{"left_parotid": [names]}}; got {" ".join(given)}.'
        )
    return spellings


def label_maps_of(
    scans: Sequence[ScanEntry],
    place: str | None,
    results: bool,
    wanted: str | None,
    spellings: Spellings,
    output_dir: str,
) -> list[ScanEntry]:
    """Write the label map of every scan that has structures; the value of an organ is its place in the list, from 1.

    Scans are DICOM series. One with a label has its structures there, all others in the folder ``place``; ``results``
    says whether structures that this bundle wrote are wanted there. Where a scan has several structure files, the one
    with the label ``wanted`` (with * and ?) is taken, or the newest. ``output_dir`` gets a folder with the label maps.
    Returned are the scans with label map and contoured organs; those without any structure are unlabelled.
    """
    if place and not os.path.exists(place):
        raise FileNotFoundError(f"'{place}' does not exist; give the folder of the structures with --labels.")
    shared = find_structure_files(place, results) if place else []
    labelled, unnamed, used = [], Counter[str](), set[str]()
    for scan in scans:
        if not os.path.isdir(scan.image):
            raise ValueError(f"{scan.image} is no DICOM series, so no structures refer to it; give it with --values.")
        series = choose_series(find_series(scan.image), None, scan.image)
        files = find_structure_files(scan.label) if scan.label else shared
        found = [one for one in files if one.is_of(series.headers)]
        used.update(one.path for one in found)
        if scan.label and not found:
            raise ValueError(f"no structures in {scan.label} refer to the series in {scan.image}.")
        if found:
            chosen = _chosen(found, wanted, scan.case)
            structures = Structures(chosen.path)
            organs = _organs_of(structures, spellings)
            own, drawn = series.headers[0].get("FrameOfReferenceUID"), map(structures.frames.get, organs.values())
            if chosen.frames and (own not in chosen.frames or not {own, None, ""}.issuperset(drawn)):
                logger.warning("%s: %s is drawn in another frame of reference, look at it.", scan.case, chosen.path)
            unnamed.update({name for number, name in structures.names.items() if number not in organs.values()})
            path = Path(output_dir).absolute() / FOLDER / f"{scan.case}.nii.gz"
            scan = _with_labels(scan, structures, organs, list(spellings), slice_stack(series), path)
        labelled.append(scan)
    if unused := [one.path for one in shared if one.path not in used]:
        logger.warning("%d structure files in %s refer to no scan: %s", len(unused), place, listed(unused, 3))
    if unnamed:
        ranked = sorted(unnamed.items(), key=lambda one: (-one[1], one[0]))
        names = [f"{name or '(no name)'} ({count})" for name, count in ranked]
        logger.warning("structures that --structures does not name (scans): %s", listed(names, MAX_LISTED))
    if not any(scan.label for scan in labelled):
        raise ValueError("no scan has a structure that --structures names; see the names listed above.")
    return labelled


def _chosen(files: Sequence[StructureFile], wanted: str | None, case: str) -> StructureFile:
    meant = [one for one in files if not wanted or any(_fits(label, wanted) for label in one.labels)]
    newest = [one for one in meant if one.made == max(other.made for other in meant)]
    if len(newest) != 1:
        described = "; ".join(f"{one.path} ({', '.join(one.labels)}; {one.made or 'no date'})" for one in files)
        what = f"of which {len(newest)} are {f'called {wanted!r}' if wanted else 'the newest'}: {described}"
        raise ValueError(f"{case} has {len(files)} structure files, {what}. Name one with --structure_set LABEL.")
    if len(files) > 1:
        logger.warning("%s has %d structure files, only %s counts.", case, len(files), newest[0].path)
    return newest[0]


def _fits(name: str, spelling: str) -> bool:
    return fnmatchcase(name.lower(), spelling.lower().replace("[", "[[]"))  # brackets mean themselves


def _organs_of(structures: Structures, spellings: Spellings) -> dict[str, int]:
    """Organ -> number of its structure, of those that the file has."""
    organs: dict[str, int] = {}
    for organ, names in spellings.items():
        for spelling in names:
            fitting = [n for n, name in structures.names.items() if _fits(name, spelling)]
            if len(fitting) > 1:
                found = [structures.names[number] for number in fitting]
                what = f"'{spelling}' fits {len(fitting)} structures of {structures.path}: {', '.join(found)}. "
                if len({name.lower() for name in found}) == 1:
                    raise ValueError(f"{what}Rename all but the one that is meant, in the program that drew them.")
                raise ValueError(f"{what}Put the one that is meant first: '{organ}={found[0]},{spelling}'.")
            if fitting:
                organs[organ] = fitting[0]
                break
    if twice := [organ for organ, number in organs.items() if list(organs.values()).count(number) > 1]:
        name = structures.names[organs[twice[0]]]
        raise ValueError(f"--structures gives '{name}' of {structures.path} to {' and '.join(twice)}; name it once.")
    return organs


def _with_labels(
    scan: ScanEntry, structures: Structures, numbers: Mapping[str, int], order: list[str], stack: SliceStack, path: Path
) -> ScanEntry:
    """Write the label map; where structures overlap, the organ that is named later is seen."""
    labels = np.zeros(stack.shape, dtype=np.uint8)
    for organ, number in numbers.items():
        region = structures.region(number, stack)
        if not region.any():
            logger.warning("%s: '%s' is empty; %s is unknown there.", scan.case, structures.names[number], organ)
            continue
        beneath, voxel_ml = labels[region], abs(float(np.linalg.det(stack.affine))) / 1000
        for value in np.unique(beneath[beneath > 0]):
            shared, other = int((beneath == value).sum()), order[value - 1]
            rest = f", nothing is left: {other} is unknown there" if shared == (labels == value).sum() else ""
            found = f"{shared * voxel_ml:.2f} ml of {other} lie in {organ} and count for it{rest}"
            logger.warning("%s: %s.", scan.case, found)
        labels[region] = order.index(organ) + 1
    contoured = [organ for organ in numbers if (labels == order.index(organ) + 1).any()]
    kept = tuple(organ for organ in contoured if scan.organs is None or organ in scan.organs)
    if not kept:
        logger.warning("%s: none of its structures is named, it is unlabelled.", scan.case)
        return replace(scan, label=None, organs=None)
    write_nifti(path, labels, stack.affine)
    return replace(scan, label=str(path), organs=kept)
