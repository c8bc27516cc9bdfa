"""Photographs among volumes: an image [channel, x, y] is a volume of one slice whose unit of length is its pixel.

With that one sentence every stage works on photographs; x runs from left to right and y from top to bottom.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from monai.data import MetaTensor


def as_volume(image: MetaTensor) -> MetaTensor:
    """Give a loaded photograph or its label map the third axis: [channel, x, y] -> [channel, x, y, 1].

    A volume [channel, x, y, z] is returned as it is.
    """
    if image.dim() != 3:
        return image
    volume = cast("MetaTensor", image.unsqueeze(-1))
    volume.meta.setdefault("original_affine", np.asarray(image.affine))
    volume.meta["spatial_shape"] = np.asarray(volume.shape[1:])
    return volume
