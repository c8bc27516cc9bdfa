from __future__ import annotations

from pathlib import Path

import pytest
from config_compositions import OVERLAYS, TRUNK, load

from scripts.outputs.dicom_segmentation import codes, organ_code

SCANS = [TRUNK, *(name for name in OVERLAYS if Path(name).stem not in ("voc", "camvid"))]
"""Configs for scans: things on photographs have no place in a DICOM-SEG."""
LISTED = sorted({organ for name in SCANS for organ in load(name).get("organs", [])})


@pytest.mark.parametrize(
    ("organ", "value", "side"),
    [
        ("spleen", "78961009", None),
        ("right_kidney", "64033007", "24028007"),
        ("left_adrenal_gland", "23451007", "7771000"),
        ("parotid_left", "45289007", "7771000"),
        ("inferior_vena_cava", "64131007", None),
    ],
)
def test_an_organ_has_the_code_of_its_structure_and_of_its_side(organ: str, value: str, side: str | None) -> None:
    structure, laterality = organ_code(organ)
    assert structure.value == value
    assert (laterality and laterality.value) == side


@pytest.mark.parametrize("organ", LISTED)
def test_every_organ_of_the_configs_has_a_code_of_its_own(organ: str) -> None:
    assert organ_code(organ)[0] != codes.SCT.AnatomicalStructure


def test_an_organ_that_nobody_knows_is_some_anatomical_structure() -> None:
    assert organ_code("my_own_region") == (codes.SCT.AnatomicalStructure, None)
