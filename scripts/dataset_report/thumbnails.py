"""A small picture of a case: the axial and the coronal slice that show the most organs, side by side."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy import ndimage

from scripts.drawing.display import Plane, picture_of, pixel_aspect, slices_with_most_organs
from scripts.drawing.overlay import SOFT_TISSUE_WINDOW_HU, organ_colour

HEIGHT, MAX_WIDTH, GAP = 150, 220, 4
OPACITY, BODY_HU, JPEG_QUALITY = 0.4, -300, 80
PLANES: tuple[Plane, ...] = ("axial", "coronal")


def thumbnail(voxels: NDArray[Any], labels: NDArray[np.uint8], spacing: Sequence[float], class_count: int) -> bytes:
    """Draw a CT [left, posterior, superior] in HU with its label map, 0 everywhere if unlabelled, as a JPEG.

    The spacing is in mm along the axes; ``class_count`` is the highest class index.
    """
    panels = []
    for plane in PLANES:
        index = slices_with_most_organs([labels], plane, 1, class_count)[0]
        slices = picture_of(voxels, plane, index), picture_of(labels, plane, index)
        panels.append(_panel(*slices, pixel_aspect(spacing, plane)))
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
