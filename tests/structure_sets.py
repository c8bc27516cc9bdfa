"""Label maps on series in every direction, and two readers of structure sets that no one here wrote for them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import nibabel as nib
import numpy as np
import pydicom
from ct_series import AXIAL, voxels_of, write_ct_series
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy.spatial.transform import Rotation

ORGANS = ["left_kidney", "aorta", "my_own_region", "liver"]
SHAPE = (56, 44, 24)


def turned(angles: Sequence[float]) -> NDArray[np.float64]:
    """The axial grid turned about the axes from right to left, from front to back and from feet to head, in degrees."""
    affine = AXIAL.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ affine[:3, :3]
    return affine


SERIES = {
    "axial": AXIAL,
    "prone": turned([0, 0, 180]),
    "feet_first": turned([0, 180, 0]),
    "decubitus": turned([0, 0, 90]),
    "feet_first_decubitus": turned([180, 0, 90]),
    "turned_head": turned([0, 0, 13]),
    "oblique": turned([24, -15, 9]),
    "coronal": turned([90, 0, 0]),
}
"""Affines (RAS) of series with pixels that are not square and more columns than rows."""


def label_map() -> NDArray[np.uint8]:
    """A shell with a core in its hollow, a tube in two pieces, a small region, and an organ that is not there."""
    place = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1) * [2.0, 3.0, 5.0]
    labels = np.zeros(SHAPE, dtype=np.uint8)

    def distance(*centre: float) -> Any:
        return np.linalg.norm((place - centre) / [1.0, 1.2, 1.5], axis=-1)

    labels[distance(40, 60, 60) < 30] = 1
    labels[distance(42, 62, 60) < 16] = 0
    labels[distance(42, 62, 60) < 6] = 1
    for z in (20, 90):
        labels[distance(86, 70, z) < 13] = 2
    labels[distance(95, 25, 60) < 7] = 3
    return labels


def write_series(folder: Path, affine: NDArray[np.float64] = AXIAL, **tags: Any) -> Path:
    """A series of the label map's shape, whose voxels depend on its UID."""
    return write_ct_series(folder, voxels_of(SHAPE, seed=crc32(tags.get("series", "").encode())), affine, **tags)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def read_by_outlines(path: Path, series: Path) -> dict[str, NDArray[np.bool_]]:
    """ROI name -> [column, row, slice]: each contour on the image that it refers to, slices by InstanceNumber.

    Winding numbers of all pixel centres, in the places that the image's own header gives.
    """
    content = pydicom.dcmread(path)
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, series.iterdir())}
    names = {roi.ROINumber: roi.ROIName for roi in content.StructureSetROISequence}
    found = {}
    for roi in content.ROIContourSequence:
        region = found.setdefault(names[roi.ReferencedROINumber], np.zeros(SHAPE, dtype=bool))
        for contour in roi.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            image = images[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
            places = np.array(contour.ContourData, dtype=float).reshape(-1, 3) - np.array(image.ImagePositionPatient)
            assert len(places) == contour.NumberOfContourPoints
            assert np.abs(places @ np.cross(row, column)).max() < 1e-3  # mm
            height, width = image.PixelSpacing
            outline = Outline(np.stack([places @ row / width, places @ column / height], axis=1))
            centres = np.stack(np.meshgrid(*map(np.arange, SHAPE[:2]), indexing="ij"), axis=-1).reshape(-1, 2)
            region[:, :, image.InstanceNumber - 1] |= outline.contains_points(centres).reshape(SHAPE[:2])
    return found


def read_by_plastimatch(path: Path, series: Path, affine: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """ROI name -> [column, row, slice] of a grid."""
    out = path.parent / f"plastimatch_{path.stem}"
    options = ["--output-prefix", str(out), "--prefix-format", "nii.gz", "--referenced-ct", str(series)]
    subprocess.run(["plastimatch", "convert", "--input", str(path), *options], check=True, capture_output=True)
    found = {}
    for file in out.iterdir():
        image: Any = nib.load(file)
        to_file = np.linalg.inv(image.affine) @ affine
        places = (
            np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1) @ to_file[:3, :3].T + to_file[:3, 3]
        )
        index = places.round().astype(int)
        inside = ((index >= 0) & (index < image.shape)).all(axis=-1)
        voxels = np.asarray(image.dataobj) > 0
        at = tuple(np.moveaxis(np.where(inside[..., None], index, 0), -1, 0))
        found[file.name.removesuffix(".nii.gz")] = voxels[at] & inside
    shutil.rmtree(out)
    return found


Drawn = list[tuple[str, Any]]
"""Contours of an ROI: geometric type, and corners in mm (LPS), [corner, 3]."""


def circle(radius: float, centre: Sequence[float], corners: int = 90) -> NDArray[np.float64]:
    """A circle in an axial plane, mm (LPS)."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles), 0 * angles], axis=1) + centre


def write_contours(path: Path, series: Path, rois: dict[str, Drawn], refer: bool = True, **tags: Any) -> Path:
    """An RTSTRUCT as another program writes it: explicit encoding, no images beside the contours.

    Args:
        path: the file.
        series: folder of the series.
        rois: contours by name.
        refer: whether it names the series and its slices, or the frame of reference alone.
        tags: replace those of the file.
    """
    images = list(map(pydicom.dcmread, sorted(series.glob("IM*"))))
    content = pydicom.Dataset()
    content.SOPClassUID, content.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    content.Modality, content.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    content.PatientID, content.StudyInstanceUID = images[0].PatientID, images[0].StudyInstanceUID
    content.StructureSetLabel, content.StructureSetDate, content.StructureSetTime = "Plan1", "20240301", "120000"
    referred, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    if refer:
        referred.SeriesInstanceUID, referred.ContourImageSequence = images[0].SeriesInstanceUID, []
        for image in images:
            one = pydicom.Dataset()
            one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
            referred.ContourImageSequence.append(one)
        study.ReferencedSOPInstanceUID, study.RTReferencedSeriesSequence = images[0].StudyInstanceUID, [referred]
        frame.RTReferencedStudySequence = [study]
    content.ReferencedFrameOfReferenceSequence = [frame]
    content.StructureSetROISequence, content.ROIContourSequence = [], []
    for number, (name, drawn) in enumerate(rois.items(), start=11):
        roi, found = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame.FrameOfReferenceUID
        content.StructureSetROISequence.append(roi)
        found.ReferencedROINumber = number
        for kind, points in drawn:
            contour = pydicom.Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{value:.3f}" for value in np.ravel(points)]
            found.ContourSequence = [*found.get("ContourSequence", []), contour]
        content.ROIContourSequence.append(found)
    for name, value in tags.items():
        setattr(content, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.save_as(path, enforce_file_format=True)
    return path
