"""Fusion: overlapping patch probabilities -> probabilities of an organ in a slice -> class scores of a volume.

RAP-Net's public code lets patches vote +1 / -1 per organ and takes the argmax over [0, organs]. Blended probabilities
(our choice) are the soft form of that vote: the background score 1 - max_o p_o wins exactly where no organ reaches .5.
"""

from monai.data.utils import compute_importance_map
from torch import Tensor


def blending_weights(patch: int) -> Tensor:
    """Weight of each pixel of a patch when windows overlap: [patch, patch], 1 at the centre, falling to the border."""
    return compute_importance_map((patch, patch), "gaussian", sigma_scale=0.25)  # of the side: standard deviation


def paste(total: Tensor, weight: Tensor, probabilities: Tensor, windows: Tensor, blend: Tensor) -> None:
    """Add patches [query, x, y] to the running sums of a slab [slice, x, y] in place: `total`, weighted, and `weight`.

    The windows [query, 3] are (slice in the slab, x, y of the first pixel); `blend` [x, y]: :func:`blending_weights`.
    """
    size_x, size_y = blend.shape[0], blend.shape[1]
    places: list[list[int]] = windows.tolist()
    weighted = probabilities * blend
    for n, place in enumerate(places):
        z, x, y = place[0], place[1], place[2]
        total[z, x : x + size_x, y : y + size_y] += weighted[n]
        weight[z, x : x + size_x, y : y + size_y] += blend


def background_score(organ_probabilities: Tensor) -> Tensor:
    """Organ probabilities [organ, ...] -> score of the background [...]; the argmax of all gives fused labels.

    The two-stage predictor answers for each organ by itself: an organ wins where it reaches .5, so that the background
    is 1 - max. The coarse stage alone is scored by the same rule, so that the two differ in their maps only.
    """
    return 1.0 - organ_probabilities.amax(dim=0)
