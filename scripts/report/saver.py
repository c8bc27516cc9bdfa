"""The last step of inference where a report is wanted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from scripts.drawing.overlay import overlay_figure
from scripts.files.atomic_write import replacing
from scripts.files.result_files import bundle_identity, result_path
from scripts.outputs.scan_outputs import scan_name
from scripts.preprocessing.scan_reader import WARNINGS, load_volume
from scripts.report.page import montage_figure, organ_measures, report_page


class SaveReportd(MapTransform):
    """Write `<case>_report.html` with measures and pictures, and the measures alone as `<case>_organs.csv`.

    Args:
        keys: label map [1, i, j, k] on the scan's grid.
        output_dir: folder of the reports.
        organs: organ names in the order of their class indices.
        model_path: weights, named in the report.
        classes: class indices of the organs that were looked for; None: all.
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
        super().__init__(keys)
        self.classes = classes
        self.output_dir, self.organs, self.weights = Path(output_dir), list(organs), Path(model_path).name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Report on the label maps under the keys."""
        for key in self.key_iterator(data):
            labels: MetaTensor = data[key]
            scan = load_volume(data["image"].meta["filename_or_obj"])
            warnings = str(data["image"].meta.get(WARNINGS, ""))
            self._write(scan_name(data), scan[0].numpy(), labels[0].cpu().numpy(), labels.affine.numpy(), warnings)
        return dict(data)

    def _write(
        self, name: str, image: NDArray[Any], labels: NDArray[np.uint8], affine: NDArray[np.float64], warnings: str
    ) -> None:
        measures = organ_measures(image, labels, affine, self.organs, self.classes)
        figures = {"Overview": overlay_figure(image, labels, affine, self.organs)}
        montage = montage_figure(image, labels, affine, self.organs)
        if montage is not None:
            figures["Each organ where it is largest"] = montage
        bundle = bundle_identity()
        made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        page = report_page(
            title=f"Organs in {name}",
            notice=bundle.intended_use,
            facts=_facts(image.shape, affine, sum(measure.volume_ml > 0 for measure in measures), len(measures)),
            warnings=warnings.splitlines(),
            measures=measures,
            figures=figures,
            footer=f"{bundle.name} {bundle.version}, weights {self.weights or 'not named'}; made {made}. Organs were "
            "outlined automatically and nobody has checked them.",
        )
        table = pd.DataFrame(measures).round({"volume_ml": 3, "mean_hu": 2})
        with replacing(result_path(self.output_dir, name, "measures")) as temporary:
            table.assign(warnings=warnings.replace("\n", " ")).to_csv(temporary, index=False, errors="backslashreplace")
        with replacing(result_path(self.output_dir, name, "report")) as temporary:
            temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _facts(shape: Sequence[int], affine: NDArray[np.float64], found: int, wanted: int) -> str:
    voxels = " x ".join(str(size) for size in shape)
    spacing = " x ".join(f"{size:.2f}" for size in np.linalg.norm(affine[:3, :3], axis=0))
    return f"{found} of {wanted} organs found in a scan of {voxels} voxels of {spacing} mm."
