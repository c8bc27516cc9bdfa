"""What the report knows about one case: geometry, Hounsfield units, organ volumes and a small picture."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy import ndimage
from tqdm.contrib.concurrent import thread_map

from scripts.drawing import display
from scripts.drawing.overlay import SOFT_TISSUE_WINDOW_HU, organ_colour
from scripts.preprocessing.organ_labels import load_organ_labels
from scripts.preprocessing.scan_reader import load_volume
from scripts.runtime.plain_errors import describe

HU_EDGES = np.arange(-1024, 1556, 20)
SOFT_TISSUE_HU = (-150, 250)
MAX_WORKERS, ML_PER_MM3 = 8, 1e-3
HEIGHT, MAX_WIDTH, GAP = 150, 220, 4
OPACITY, BODY_HU, JPEG_QUALITY = 0.4, -300, 80
PLANES: tuple[display.Plane, ...] = ("axial", "coronal")


@dataclass
class ContourMeasure:
    """One organ in one case; its centre is in mm towards left, posterior and superior from the first voxel."""

    ml: float
    centre: tuple[float, float, float] | None = None  # None without any voxel
    cut: bool = False  # whether the organ reaches the first or the last axial slice
    apart: float = 0.0  # share of the voxels outside of the largest connected piece


@dataclass
class CaseMeasure:
    """One case; only name, split and ``failure`` say anything if it could not be read.

    Shape (voxels) and spacing (mm) are along left, posterior, superior; the histogram holds shares of the voxels.
    """

    case: str
    split: str
    patient: str | None = None
    phase: str | None = None
    labelled: bool = False
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    histogram: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(HU_EDGES) - 1))
    soft_tissue_hu: float = float("nan")  # median of the voxels that are soft tissue
    organs: dict[str, ContourMeasure] = field(default_factory=dict)  # those that were contoured
    picture: bytes = b""  # JPEG of an axial and a coronal slice
    failure: str = ""  # why the case could not be read

    @property
    def extent(self) -> tuple[float, ...]:
        """Size of the scan in mm along left, posterior, superior."""
        return tuple(size * mm for size, mm in zip(self.shape, self.spacing, strict=True))


def measure_cases(splits: Mapping[str, Sequence[Mapping[str, Any]]], organs: Sequence[str]) -> list[CaseMeasure]:
    """Measure every case of ``load_cases``, a few at a time; one that cannot be read becomes a failure."""
    jobs = [(split, case, organs) for split, cases in splits.items() for case in cases]
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    return thread_map(lambda job: _measured(*job), jobs, max_workers=workers, desc="measuring", unit="case")


def _measured(split: str, case: Mapping[str, Any], organs: Sequence[str]) -> CaseMeasure:
    try:
        return measure_case(split, case, organs)
    # Readers raise many kinds of exception for broken bytes, and a report of the other cases is still wanted.
    except Exception as error:
        return CaseMeasure(str(case["case"]), split, failure=describe(error).partition("\n")[0])


def measure_case(split: str, case: Mapping[str, Any], organs: Sequence[str]) -> CaseMeasure:
    """Read image and label of a case and measure them; raises what the readers raise."""
    scan = load_volume(case["image"])
    affine = np.asarray(scan.affine, dtype=np.float64)
    voxels = display.to_display_order(scan[0].numpy(), affine)
    spacing = display.display_spacing(affine)
    labels = np.zeros(voxels.shape, np.uint8)
    if case.get("label"):
        loaded = load_organ_labels(case, organs, scan=scan)
        labels = display.to_display_order(loaded[0].numpy(), np.asarray(loaded.affine, dtype=np.float64))
    counts, _ = np.histogram(voxels, HU_EDGES)
    soft = voxels[(voxels > SOFT_TISSUE_HU[0]) & (voxels < SOFT_TISSUE_HU[1])]
    return CaseMeasure(
        case=str(case["case"]),
        split=split,
        patient=case.get("patient"),
        phase=case.get("phase"),
        labelled=bool(case.get("label")),
        shape=tuple(voxels.shape),
        spacing=spacing,
        histogram=counts / max(1, counts.sum()),
        soft_tissue_hu=float(np.median(soft)) if soft.size else float("nan"),
        organs=measure_organs(labels, spacing, organs, case.get("annotated", organs)),
        picture=thumbnail(voxels, labels, spacing, len(organs)),
    )


def measure_organs(
    labels: NDArray[np.uint8], spacing: Sequence[float], organs: Sequence[str], annotated: Sequence[str]
) -> dict[str, ContourMeasure]:
    """Measure the annotated organs in a label map [left, posterior, superior]; an absent one has 0 ml.

    The class index of an organ is its place in ``organs``, from 1; the spacing is in mm along the axes.
    """
    boxes = ndimage.find_objects(labels, max_label=len(organs))
    measured: dict[str, ContourMeasure] = {}
    for index, (organ, box) in enumerate(zip(organs, boxes, strict=True), start=1):
        if organ not in annotated:
            continue
        if box is None:
            measured[organ] = ContourMeasure(0.0)
            continue
        where = labels[box] == index
        count = int(where.sum())
        x, y, z = (np.argwhere(where).mean(axis=0) + [side.start for side in box]) * np.asarray(spacing)
        pieces, _ = ndimage.label(where, structure=np.ones((3, 3, 3)))
        measured[organ] = ContourMeasure(
            ml=count * float(np.prod(spacing)) * ML_PER_MM3,
            centre=(float(x), float(y), float(z)),
            cut=box[2].start == 0 or box[2].stop == labels.shape[2],
            apart=1.0 - int(np.bincount(pieces.ravel())[1:].max()) / count,
        )
    return measured


def thumbnail(voxels: NDArray[Any], labels: NDArray[np.uint8], spacing: Sequence[float], class_count: int) -> bytes:
    """Draw a CT [left, posterior, superior] in HU with its label map, 0 everywhere if unlabelled, as a JPEG.

    The spacing is in mm along the axes; ``class_count`` is the highest class index.
    """
    panels = []
    for plane in PLANES:
        index = display.slices_with_most_organs([labels], plane, 1, class_count)[0]
        slices = display.picture_of(voxels, plane, index), display.picture_of(labels, plane, index)
        panels.append(_panel(*slices, display.pixel_aspect(spacing, plane)))
    panels.insert(1, np.zeros((HEIGHT, GAP, 3), np.uint8))
    stream = io.BytesIO()
    imsave(stream, np.concatenate(panels, axis=1), format="jpg", pil_kwargs={"quality": JPEG_QUALITY})
    return stream.getvalue()


def _panel(picture: NDArray[Any], labels: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """One slice in colour [HEIGHT, width, 3], cut to the body, in the proportions of the patient."""
    body = picture > BODY_HU
    (box,) = ndimage.find_objects((body if body.any() else ~body).astype(np.int8))
    picture, labels = picture[box].astype(np.float32), labels[box]
    rows, columns = picture.shape
    scale = min(HEIGHT / (rows * aspect), MAX_WIDTH / columns)
    height, width = max(1, round(rows * aspect * scale)), max(1, round(columns * scale))
    zoom = (height / rows, width / columns)
    low, high = SOFT_TISSUE_WINDOW_HU
    grey = np.clip((ndimage.zoom(picture, zoom, order=1) - low) / (high - low), 0, 1)
    organs = ndimage.zoom(labels, zoom, order=0)
    colours = np.array([(0.0, 0.0, 0.0), *(to_rgb(organ_colour(index)) for index in range(1, int(labels.max()) + 1))])
    opacity = OPACITY * (organs > 0)[..., None]
    blended = (1 - opacity) * grey[..., None] + opacity * colours[organs]
    above = (HEIGHT - height) // 2
    padded = np.pad(blended, ((above, HEIGHT - height - above), (0, 0), (0, 0)))
    return np.asarray(np.round(255 * padded), np.uint8)
