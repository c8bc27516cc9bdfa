"""The report on one scan: volume and mean HU of every organ, and pictures to check them by."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from monai.config import KeysCollection
from numpy.typing import NDArray

from scripts.drawing.display import (
    box_around_organs,
    display_spacing,
    plain_text,
    slices_with_most_organs,
    to_display_order,
)
from scripts.drawing.html import embedded, png, table, write_page
from scripts.drawing.overlay import MARGIN_MM, draw_panel, organ_colour, overlay_figure
from scripts.files.atomic_write import replacing
from scripts.files.result_files import bundle_identity, result_path
from scripts.outputs.scan_outputs import RESULT, ScanSaverd, scan_name
from scripts.preprocessing.scan_reader import WARNINGS, load_volume

LOOK_AT = 0.6  # organs of which a lower Dice is estimated are pointed out; our choice
MONTAGE_COLUMNS = 4
MM3_PER_ML = 1000.0


class SaveReportd(ScanSaverd):
    """Write `<case>_report.html` with measures and pictures, and the measures alone as `<case>_organs.csv`.

    Besides the arguments of :class:`ScanSaverd` it takes `model_path`, the weights to name in the report, and the
    `classes` that were looked for, where these are not all.
    """

    kinds = ("report", "measures")

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str,
        organs: Sequence[str],
        model_path: str = "",
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(keys, output_dir, organs)
        self.weights, self.classes = Path(model_path).name, classes

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        name, warnings = scan_name(data), str(data["image"].meta.get(WARNINGS, ""))
        image = load_volume(data["image"].meta["filename_or_obj"])[0].numpy()
        labels, affine = value[0].cpu().numpy(), value.affine.numpy()
        measures = organ_measures(image, labels, affine, self.organs, self.classes, data.get(RESULT, {}))
        with replacing(result_path(self.output_dir, name, "measures")) as temporary:
            rounded = pd.DataFrame(measures).round({"volume_ml": 3, "mean_hu": 2})
            rounded = rounded.assign(warnings=warnings.replace("\n", " "))
            rounded.to_csv(temporary, index=False, errors="backslashreplace")
        figures = {"Overview": overlay_figure(image, labels, affine, self.organs)}
        montage = montage_figure(image, labels, affine, self.organs)
        if montage is not None:
            figures["Each organ where it is largest"] = montage
        bundle, made = bundle_identity(), datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        notices = [bundle.intended_use, *(f"Warning: {line}" for line in warnings.splitlines())]
        parts = [
            *(f'<p class="notice">{escape(notice)}</p>' for notice in notices),
            f'<p class="facts">{_facts(measures, image.shape, affine)}</p>',
            "<h2>Organs</h2>",
            table(["organ", "volume (mL)", "mean HU", "estimated Dice", "remark"], map(_row, measures)),
            *(f"<h2>{heading}</h2>{embedded(png(figure), heading)}" for heading, figure in figures.items()),
            f"<footer>{bundle.name} {bundle.version}, weights {escape(self.weights) or 'not named'}; made {made}. "
            "Organs were outlined automatically and nobody has checked them.</footer>",
        ]
        write_page(path, f"Organs in {name}", parts)


@dataclass(frozen=True)
class OrganFinding:
    """Measures of one organ, 0 ml and no HU if it was not found; soft and estimated Dice where they are known.

    `cut_off` says whether it reaches the edge of the scan, so that a part of it may lie outside.
    """

    organ: str
    class_index: int
    volume_ml: float
    mean_hu: float | None
    cut_off: bool
    soft_dice: float | None = None
    estimated_dice: float | None = None


def organ_measures(
    image: NDArray[Any],
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    organs: Sequence[str],
    classes: Sequence[int] | None = None,
    noted: Mapping[str, Mapping[str, float]] | None = None,
) -> list[OrganFinding]:
    """Measure organs.

    Args:
        image: CT [x, y, z] in HU.
        labels: label map [x, y, z]; class index of an organ = position in `organs` + 1.
        affine: 4 x 4 matrix from voxel indices to mm.
        organs: names.
        classes: class indices of the organs that are measured; None: all.
        noted: further measures by name and organ.

    Raises:
        ValueError: the shapes differ, or a class index has no name.
    """
    highest = int(labels.max(initial=0))
    if image.shape != labels.shape or highest > len(organs):
        raise ValueError(
            f"image and label map have the shapes {image.shape} and {labels.shape}, and the highest class index is "
            f"{highest} of {len(organs)} organs: give a label map on the scan's grid and the organs of its config."
        )
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / MM3_PER_ML
    flat, count = labels.astype(np.intp).ravel(), len(organs) + 1
    voxels = np.bincount(flat, minlength=count)
    total_hu = np.bincount(flat, weights=image.astype(np.float64).ravel(), minlength=count)
    at_edge = {int(value) for axis in range(3) for value in np.unique(np.take(labels, [0, -1], axis=axis))}
    return [
        OrganFinding(
            organ=organ,
            class_index=index,
            volume_ml=float(voxels[index] * voxel_ml),
            mean_hu=float(total_hu[index] / voxels[index]) if voxels[index] else None,
            cut_off=index in at_edge,
            **{
                name: round(found[organ], 3)
                for name, found in (noted or {}).items()
                if voxels[index] and organ in found
            },
        )
        for index, organ in enumerate(organs, start=1)
        if classes is None or index in classes
    ]


def _facts(measures: Sequence[OrganFinding], shape: Sequence[int], affine: NDArray[np.float64]) -> str:
    found = sum(measure.volume_ml > 0 for measure in measures)
    voxels = " x ".join(str(size) for size in shape)
    spacing = " x ".join(f"{size:.2f}" for size in np.linalg.norm(affine[:3, :3], axis=0))
    return f"{found} of {len(measures)} organs found in a scan of {voxels} voxels of {spacing} mm."


def _row(measure: OrganFinding) -> list[str]:
    chip = f'<span class="colour" style="background: {organ_colour(measure.class_index)}"></span>'
    name = chip + escape(measure.organ.replace("_", " "))
    if measure.mean_hu is None:
        return [f'<span class="absent">{cell}</span>' for cell in (name, "-", "-", "-", "not found")]
    dice = np.nan if measure.estimated_dice is None else measure.estimated_dice
    remarks = ["<strong>look at this one</strong>"] * (dice < LOOK_AT)
    remarks += ["reaches the edge of the scan, a part may be missing"] * measure.cut_off
    measured = [f"{measure.volume_ml:.1f}", f"{measure.mean_hu:.0f}", f"{dice:.2f}".replace("nan", "-")]
    return [name, *measured, "; ".join(remarks)]


def montage_figure(
    image: NDArray[Any], labels: NDArray[Any], affine: NDArray[np.float64], organs: Sequence[str]
) -> Figure | None:
    """Draw the axial slice in which each organ is largest, cut to its surroundings; None if no organ was found.

    The arguments are those of :func:`organ_measures`.
    """
    image, labels = to_display_order(image, affine), to_display_order(labels, affine)
    spacing = display_spacing(affine)
    found = [index for index in range(1, len(organs) + 1) if (labels == index).any()]
    if not found:
        return None
    rows = -(-len(found) // MONTAGE_COLUMNS)
    figure = Figure(figsize=(13.0, 3.4 * rows), dpi=110, facecolor="black", layout="constrained")
    panels = figure.subplots(rows, MONTAGE_COLUMNS, squeeze=False).flat
    for axes, index in zip(panels, found, strict=False):
        organ = (labels == index).astype(np.uint8)
        box = box_around_organs([organ], spacing, MARGIN_MM)
        (largest,) = slices_with_most_organs([organ[box]], "axial", 1, class_count=1)
        draw_panel(axes, image[box], [labels[box]], "axial", largest, spacing)
        axes.set_title(plain_text(organs[index - 1].replace("_", " ")), color=organ_colour(index), fontsize=12)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
