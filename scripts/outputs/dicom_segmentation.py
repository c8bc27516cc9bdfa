"""A label map as DICOM-SEG, slice for slice on the images of the series that it was made from."""

import logging
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from monai.config import KeysCollection
from monai.utils.module import optional_import
from numpy.typing import NDArray

from scripts.dicom.referred_images import UNICODE, images_of_labels
from scripts.drawing.overlay import organ_colour
from scripts.files.atomic_write import replacing
from scripts.files.result_files import bundle_identity
from scripts.outputs.scan_outputs import RESULT, ScanSaverd, scan_name

hd, has_highdicom = optional_import("highdicom")
warnings.filterwarnings("ignore", message="The string .* is unlikely to represent")  # it shows a patient's name
codes, _ = optional_import("pydicom.sr.codedict", name="codes")
logger = logging.getLogger(__name__)

SERIES_NUMBER = 9001  # high, so that a viewer lists the segmentation behind the images of the study; our choice
SERIES_DESCRIPTION = "Organs found automatically (research only)"
NOTICE = "Found automatically; research only"
SIDES = {"left": "Left", "right": "Right"}
OTHER_WORDS = {
    "brainstem": "BrainStem",
    "urinary_bladder": "Bladder",
    "parotid": "ParotidGland",
    "thyroid_gland": "Thyroid",
    "eye_globe": "Eyeball",
    "portal_and_splenic_veins": "Vein",  # no code for the two together
}
"""Organs whose SNOMED name in pydicom's dictionary is not their own name in capitals."""


def organ_code(organ: str) -> tuple[Any, Any | None]:
    """Find the code of an organ's structure, and that of its side if its name has one.

    An organ that is not in the dictionary gets the code of any anatomical structure; the segment's label names it.

    Example: ``right_kidney`` -> (64033007 Kidney, 24028007 Right).
    """
    words = organ.lower().split("_")
    sides = [SIDES[word] for word in words if word in SIDES]
    name = "_".join(word for word in words if word not in SIDES)
    keyword = OTHER_WORDS.get(name) or "".join(word.capitalize() for word in name.split("_"))
    structure = getattr(codes.SCT, keyword, codes.SCT.AnatomicalStructure)
    return structure, getattr(codes.SCT, sides[0]) if len(sides) == 1 else None


def organ_rgb(class_index: int) -> list[int]:
    """Red, green and blue, 0 to 255, in which an organ is drawn."""
    return [round(255 * value) for value in to_rgb(organ_colour(class_index))]


def write_segmentation(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    series: str,
    organs: Sequence[str],
    path: Path,
    classes: Sequence[int] | None = None,
    estimated_dice: Mapping[str, float] | None = None,
) -> None:
    """Write a DICOM-SEG file, whole or not at all; the number of a segment is the class index of its organ.

    With `classes` (of the organs that have a segment, in ascending order; None: all) it is the place among these, since
    DICOM wants the numbers without gaps. The label map is [column, row, slice], its affine leads to mm (RAS); `series`
    is the folder of the series that was segmented. The organs stand in the order of their class indices. Descriptions
    state the estimated Dice. ValueError: the label map is not on the grid of the series.
    """
    _, images = images_of_labels(labels, affine, series, path)
    shown = list(classes or range(1, len(organs) + 1))
    numbers = np.zeros(len(organs) + 1, np.uint8)
    numbers[shown] = np.arange(1, len(shown) + 1)
    bundle = bundle_identity()
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(numbers[labels].transpose(2, 1, 0)),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(numbers[n], n, organs[n - 1], estimated_dice) for n in shown],
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=bundle.name,
        manufacturer_model_name=bundle.name,
        software_versions=bundle.version,
        device_serial_number="none",
        content_label="ORGANS",
        content_description="Organs found automatically; research only",
        series_description=SERIES_DESCRIPTION,
        specific_character_set=UNICODE,
    )
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


def described(organ: str, estimated_dice: Mapping[str, float] | None) -> str:
    """How a structure came about, and its estimated Dice if there is one."""
    estimates = estimated_dice or {}
    return f"{NOTICE}; estimated Dice {estimates[organ]:.2f}" if organ in estimates else NOTICE


def _description(number: int, index: int, organ: str, estimated_dice: Mapping[str, float] | None) -> Any:
    bundle = bundle_identity()
    structure, side = organ_code(organ)
    segment = hd.seg.SegmentDescription(
        segment_number=int(number),
        segment_label=organ.replace("_", " "),
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=structure,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=bundle.name, family=codes.DCM.ArtificialIntelligence, version=bundle.version
        ),
        display_color=hd.color.CIELabColor.from_rgb(*organ_rgb(index)),
    )
    segment.SegmentDescription = described(organ, estimated_dice)
    if side is not None:
        modifier = hd.sr.CodedConcept.from_code(side)
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return segment


class SaveOnSeriesd(ScanSaverd):
    """Base of what writes a DICOM file for scans that were read from a DICOM series; others have nothing to refer to.

    Where headers do not allow it a warning says so, and the case goes on with its label map. `classes` are the class
    indices of the organs to name in the file (None: all); the other arguments are those of :class:`ScanSaverd`.
    """

    name: str  # of the kind of file, for messages
    write: Callable[..., None]  # with the arguments of :func:`write_segmentation`

    def __init__(
        self, keys: KeysCollection, output_dir: str, organs: Sequence[str], classes: Sequence[int] | None = None
    ) -> None:
        super().__init__(keys, output_dir, organs)
        self.classes = classes

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        case, series = scan_name(data), str(data["image"].meta["filename_or_obj"])
        if not Path(series).is_dir():
            logger.info("%s is no DICOM series: no %s is written", case, self.name)
            return
        path.unlink(missing_ok=True)  # of an earlier run: if none can be written, it would be taken for one of this run
        try:
            labels, estimates = value[0].cpu().numpy().astype(np.uint8), data.get(RESULT, {}).get("estimated_dice")
            self.write(labels, value.affine.numpy(), series, self.organs, path, self.classes, estimates)
        except OSError:  # a full disk, say: the scan has failed, and is not done
            raise
        except Exception as error:  # headers are odd in many ways, and the label map is there
            logger.warning("%s: no %s is written (%s: %s)", case, self.name, type(error).__name__, error)


class SaveDicomSegmentationd(SaveOnSeriesd):
    """Write `<case>_seg.dcm`, with the arguments of :class:`SaveOnSeriesd`; ValueError if highdicom is missing."""

    kinds = ("dicom_seg",)
    name = "DICOM-SEG"
    write = staticmethod(write_segmentation)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if not has_highdicom:
            raise ValueError("DICOM-SEG needs highdicom, which is not installed: `python -m pip install highdicom`.")
