"""What inference writes for a photograph: class indices as a PNG with VOC's palette, as its server takes it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.utils.module import optional_import

from scripts.dataset.layouts.voc import voc_colours
from scripts.files.atomic_write import replacing
from scripts.files.result_files import result_path
from scripts.outputs.scan_outputs import ScanSaverd, scan_name

pillow, _ = optional_import("PIL.Image")


class SavePaletteLabelsd(ScanSaverd):
    """Write the fused labels as `<case>.png`, of the photograph's size, never half-written.

    Args:
        keys: label map [1, x, y, 1] of class indices.
        output_dir: folder of the label maps.
    """

    kinds = ("palette_labels",)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the label maps under the keys."""
        for key in self.key_iterator(data):
            # A picture has rows first: y, then x.
            rows = np.asarray(data[key][0, :, :, 0].cpu()).astype(np.uint8).T
            picture = pillow.fromarray(np.ascontiguousarray(rows), mode="L")
            picture.putpalette([value for colour in voc_colours() for value in colour])
            self.output_dir.mkdir(parents=True, exist_ok=True)
            with replacing(result_path(self.output_dir, scan_name(data), "palette_labels")) as temporary:
                picture.save(temporary, optimize=True)
        return dict(data)
