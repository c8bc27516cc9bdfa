"""The tissues of the synthetic abdomen and their Hounsfield units (HU) per contrast phase."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from scripts.prepare.btcv import ORGANS as ORGANS

PORTAL_VENOUS = "portal_venous"
NON_CONTRAST = "non_contrast"
PHASES = (PORTAL_VENOUS, NON_CONTRAST)

CLASS_INDEX = {organ: index for index, organ in enumerate(ORGANS, start=1)}

HOUNSFIELD_AIR = -1000


class Tissue(IntEnum):
    """What a voxel is made of: finer than the label map, which knows only the 13 organs."""

    AIR = 0
    TABLE = 1
    SKIN = 2
    SUBCUTANEOUS_FAT = 3
    MUSCLE = 4
    VISCERAL_FAT = 5
    LUNG = 6
    HEART = 7
    CORTICAL_BONE = 8
    MARROW = 9
    DISC = 10
    SPINAL_CANAL = 11
    BOWEL_WALL = 12
    BOWEL_FLUID = 13
    STOOL = 14
    GAS = 15
    ARTERY = 16
    VEIN = 17
    LIVER = 18
    SPLEEN = 19
    KIDNEY_CORTEX = 20
    KIDNEY_MEDULLA = 21
    RENAL_PELVIS = 22
    BILE = 23
    ESOPHAGUS = 24
    STOMACH_WALL = 25
    STOMACH_CONTENT = 26
    PORTAL_VEIN = 27
    PANCREAS = 28
    ADRENAL = 29
    CYST = 30
    CALCIFICATION = 31
    MEDIASTINAL_FAT = 32


# Tissue: (portal venous HU, non-contrast HU, spread between people, texture inside one organ), our choice within the
# ranges that radiology textbooks give (unenhanced liver 50-65, spleen about 10 below it, blood 35-45, bile 0-20,
# fat -120 to -80; portal venous liver about 110, aorta and portal vein about 150, kidney about 180).
_HOUNSFIELD: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (HOUNSFIELD_AIR, HOUNSFIELD_AIR, 0, 0),
    Tissue.TABLE: (-20, -20, 30, 0),
    Tissue.SKIN: (15, 15, 10, 10),
    Tissue.SUBCUTANEOUS_FAT: (-103, -106, 4, 5),
    Tissue.MUSCLE: (62, 53, 4, 9),
    Tissue.VISCERAL_FAT: (-98, -102, 5, 9),
    Tissue.LUNG: (-850, -850, 30, 35),
    Tissue.HEART: (125, 41, 9, 8),
    Tissue.CORTICAL_BONE: (480, 470, 60, 60),
    Tissue.MARROW: (170, 155, 30, 35),
    Tissue.DISC: (85, 80, 8, 8),
    Tissue.SPINAL_CANAL: (32, 28, 5, 6),
    Tissue.BOWEL_WALL: (85, 40, 9, 10),
    Tissue.BOWEL_FLUID: (28, 26, 12, 14),
    Tissue.STOOL: (15, 15, 25, 60),
    Tissue.GAS: (-960, -960, 10, 0),
    Tissue.ARTERY: (155, 41, 9, 3),
    Tissue.VEIN: (142, 41, 10, 5),
    Tissue.LIVER: (106, 56, 7, 4),
    Tissue.SPLEEN: (118, 49, 6, 4),
    Tissue.KIDNEY_CORTEX: (186, 33, 12, 5),
    Tissue.KIDNEY_MEDULLA: (158, 31, 14, 5),
    Tissue.RENAL_PELVIS: (20, 6, 8, 4),
    Tissue.BILE: (9, 9, 5, 3),
    Tissue.ESOPHAGUS: (62, 38, 8, 12),
    Tissue.STOMACH_WALL: (82, 41, 9, 9),
    Tissue.STOMACH_CONTENT: (28, 28, 14, 16),
    Tissue.PORTAL_VEIN: (158, 41, 9, 4),
    Tissue.PANCREAS: (94, 42, 8, 13),
    Tissue.ADRENAL: (78, 26, 8, 8),
    Tissue.CYST: (6, 6, 4, 2),
    Tissue.CALCIFICATION: (500, 500, 120, 0),
    Tissue.MEDIASTINAL_FAT: (-96, -100, 5, 9),
}


def draw_hounsfield(phase: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw one person's HU of every tissue in one phase.

    Args:
        phase: "portal_venous" or "non_contrast".
        rng: the source of the variation between people.

    Returns:
        HU by ``Tissue`` value, to index with a tissue map.

    Raises:
        ValueError: if the phase is not one of ``PHASES``.
    """
    if phase not in PHASES:
        raise ValueError(f"unknown contrast phase {phase!r}: expected one of {PHASES}")
    column = PHASES.index(phase)
    hounsfield = np.array([_HOUNSFIELD[tissue][column] for tissue in Tissue])
    spread = np.array([_HOUNSFIELD[tissue][2] for tissue in Tissue])
    # Unenhanced soft tissues differ less between people than their uptake of contrast agent does.
    soft = np.abs(hounsfield) < 80
    scale = np.where(soft & (phase == NON_CONTRAST), 0.45, 1.0)
    # Cut at 1.5 spreads, so that the order of the organs' HU stays the textbook's.
    deviation = np.clip(rng.standard_normal(len(spread)), -1.5, 1.5)
    return np.asarray(hounsfield + spread * scale * deviation, dtype=np.float32)


def texture_amplitudes() -> NDArray[np.float32]:
    """Return the standard deviation (HU) of the texture inside each tissue, by ``Tissue`` value."""
    return np.array([_HOUNSFIELD[tissue][3] for tissue in Tissue], dtype=np.float32)
