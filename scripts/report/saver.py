"""The report on one scan: volume and mean HU of every organ, and pictures to check them by."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.drawing import display
from scripts.drawing.html import embedded, png, table, write_page
from scripts.drawing.overlay import MARGIN_MM, draw_panel, organ_colour, overlay_figure
from scripts.files.atomic_write import write_text
from scripts.files.result_files import bundle_identity, result_path
from scripts.outputs.measures import MEASURES, OrganFinding
from scripts.outputs.scan_outputs import COMPARED, ScanSaverd, scan_name, voxels_of
from scripts.preprocessing.scan_reader import WARNINGS

MONTAGE_COLUMNS = 4
UNCOMPARED = "Not compared with the training scans (no quality.json with their limits fits these weights)"


class SaveReportd(ScanSaverd):
    """Write `<case>_report.html`, measures of `MeasureOrgansd` and pictures, and `<case>_organs.csv`, the measures."""

    kinds = ("report", "measures")

    def _write(self, value: Any, data: Mapping[Hashable, Any], path: Path) -> None:
        name, warnings = scan_name(data), str(data["image"].meta.get(WARNINGS, ""))
        image, labels, affine = voxels_of(data), value[0].cpu().numpy(), value.affine.numpy()
        measures: list[OrganFinding] = data[MEASURES]
        rounded = pd.DataFrame(measures).round({"volume_ml": 3, "mean_hu": 2})
        rows = rounded.assign(warnings=warnings.replace("\n", " ")).to_csv(index=False, lineterminator="\n")
        write_text(result_path(self.output_dir, name, "measures"), rows, errors="backslashreplace")
        figures = {"Overview": overlay_figure(image, labels, affine, self.organs)}
        if (montage := montage_figure(image, labels, affine, self.organs)) is not None:
            figures["Each organ where it is largest"] = montage
        weights = escape(", ".join(self._run.get("weights_sha256", []))) or "not named"
        bundle, made = bundle_identity(), datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        notices = [bundle.intended_use, *(f"Warning: {line}" for line in warnings.splitlines())]
        if data.get(COMPARED) is False:
            notices.append(f"{UNCOMPARED}: no scan is warned about.")
        parts = [
            *(f'<p class="notice">{escape(notice)}</p>' for notice in notices),
            f'<p class="facts">{_facts(measures, image.shape, affine)}</p>',
            "<h2>Organs</h2>",
            table(["organ", "volume (mL)", "mean HU", "estimated Dice", "remark"], map(_row, measures)),
            *(f"<h2>{heading}</h2>{embedded(png(figure), heading)}" for heading, figure in figures.items()),
            f"<footer>{bundle.name} {bundle.version}, weights {weights}; made {made}. "
            "Organs were outlined automatically and nobody has checked them.</footer>",
        ]
        write_page(path, f"Organs in {name}", parts)


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
    remarks = ["<strong>look at this one</strong>"] * measure.doubtful
    remarks += ["reaches the edge of the scan, a part may be missing"] * measure.cut_off
    measured = [f"{measure.volume_ml:.1f}", f"{measure.mean_hu:.0f}", f"{dice:.2f}".replace("nan", "-")]
    return [name, *measured, "; ".join(remarks)]


def montage_figure(
    image: NDArray[Any], labels: NDArray[Any], affine: NDArray[np.float64], organs: Sequence[str]
) -> Figure | None:
    """Draw the axial slice in which each organ is largest, cut to its surroundings; None if no organ was found.

    The arguments are those of :func:`organ_measures`.
    """
    image, labels = display.to_display_order(image, affine), display.to_display_order(labels, affine)
    spacing = display.display_spacing(affine)
    found = [index for index in range(1, len(organs) + 1) if (labels == index).any()]
    if not found:
        return None
    rows = -(-len(found) // MONTAGE_COLUMNS)
    figure = Figure(figsize=(13.0, 3.4 * rows), dpi=110, facecolor="black", layout="constrained")
    panels = figure.subplots(rows, MONTAGE_COLUMNS, squeeze=False).flat
    for axes, index in zip(panels, found, strict=False):
        organ = (labels == index).astype(np.uint8)
        box = display.box_around_organs([organ], spacing, MARGIN_MM)
        (largest,) = display.slices_with_most_organs([organ[box]], "axial", 1, class_count=1)
        draw_panel(axes, image[box], [labels[box]], "axial", largest, spacing)
        axes.set_title(display.plain_text(organs[index - 1].replace("_", " ")), color=organ_colour(index), fontsize=12)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
