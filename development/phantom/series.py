"""A synthetic case as a DICOM series, as a scanner would export it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STORED_AIR = 1024  # scanners store HU from 0 on


def series_voxels(image: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """A NIfTI scan as a series holds it: HU [column, row, slice] and affine (RAS, mm)."""
    scan: Any = nib.load(image)
    wanted = nib.orientations.axcodes2ornt("LPS")
    turned = scan.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(scan.affine), wanted))
    return np.asarray(turned.dataobj, np.int16), turned.affine


def slice_dataset(values: NDArray[np.int16], affine: NDArray[np.float64], k: int, series: str) -> Dataset:
    """One slice [column, row] in HU at place `k` of a grid (RAS, mm)."""
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[series, str(k)])
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "1.2.3", series, "1.2.3.99"
    one.PatientID, one.PatientName, one.PatientBirthDate, one.PatientSex = "P7", "Doe^Jane", "", "F"
    one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber, one.ReferringPhysicianName = *("",) * 4, ""
    one.Modality, one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "CT", "Scanners", 2, k + 1
    one.ImageType, one.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], "abdomen venous"
    one.ImagePositionPatient = [f"{value:.6f}" for value in (lps @ [0, 0, k, 1])[:3]]
    one.ImageOrientationPatient = [f"{value:.6f}" for value in (lps[:3, :2] / spacing[:2]).T.ravel()]
    one.PixelSpacing, one.SliceThickness = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"], f"{spacing[2]:.3f}"
    one.Columns, one.Rows = values.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleIntercept, one.RescaleSlope, one.RescaleType = -STORED_AIR, 1, "HU"
    one.PixelData = (values.T + STORED_AIR).astype("<i2").tobytes()
    return one


def write_phantom_series(image: Path, folder: Path) -> None:
    """Write a synthetic case, a NIfTI scan, as a series in a study of its own."""
    folder.mkdir(parents=True)
    voxels, affine = series_voxels(image)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(voxels.shape[2]):
        one = slice_dataset(voxels[:, :, k], affine, k, series)
        one.StudyInstanceUID, one.FrameOfReferenceUID = study, frame
        one.PatientID, one.PatientName = "phantom", "Synthetic^Abdomen"
        one.WindowCenter, one.WindowWidth = 40, 400  # soft tissue, as viewers show it first
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)
