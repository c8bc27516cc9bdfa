"""Queries: which slice, which organ, which window. The 3D-to-2D step of the method.

A query is an index: (slice, organ, corner of the window). Training sees what inference would ask (BTCV: less of it).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d


def organ_boxes(maps: Tensor, threshold: float, margin_slices: int) -> tuple[Tensor, Tensor]:
    """Bounding box of every organ in every slice where its coarse map [slice, organ, x, y] reaches the threshold.

    An organ is also queried `margin_slices` slices above and below, with the box of its neighbours, so that the second
    stage can extend what the coarse stage cut off. Returned are indices [box, 2] of (slice, organ) and boxes [box, 4]
    of (x first, x last, y first, y last) in map pixels.
    """
    hit = maps >= threshold
    spans: list[Tensor] = []
    for axis in (3, 2):
        covered = hit.any(dim=axis).to(torch.float32).permute(1, 2, 0)
        pooled = max_pool1d(covered, 2 * margin_slices + 1, stride=1, padding=margin_slices)
        spans.append(pooled.permute(2, 0, 1))
    indices = torch.nonzero(spans[0].amax(dim=2) > 0)
    sides: list[Tensor] = []
    for span in spans:
        covered = span[indices[:, 0], indices[:, 1]]
        sides.append(covered.argmax(dim=1))
        sides.append(covered.shape[1] - 1 - covered.flip(1).argmax(dim=1))
    return indices, torch.stack(sides, dim=1)


def window_corners(low: Tensor, high: Tensor, patch: int, overlap: float, size: int) -> tuple[Tensor, Tensor]:
    """Number of windows and their first corner and spacing along one axis, for intervals [low, high) in pixels.

    One centred window where the interval fits into the patch; otherwise the fewest evenly spaced windows that cover it
    with at least the given overlap. Windows stay inside the axis of `size` pixels, or begin at 0 where it is shorter
    than the patch. Returned are count [interval] and, [interval, 2], the first corner and the step between windows.
    """
    low, high = torch.floor(low).clamp(min=0.0), torch.ceil(high).clamp(max=float(size))
    rest = (high - low - patch).clamp(min=0.0)
    # A whole number of pixels: rounding the corners then costs no overlap.
    stride = max(int(patch * (1.0 - overlap)), 1)
    count = torch.ceil(rest / stride).to(torch.int64) + 1
    step = rest / (count - 1).clamp(min=1)
    centred = ((low + high - patch) / 2).clamp(min=0.0, max=float(max(size - patch, 0)))
    start = torch.where(count > 1, low, centred)
    return count, torch.stack([start, step], dim=1)


class QueryPlanner(nn.Module):
    """The places of a volume to query: coarse maps -> queries.

    A window has a side of `patch_size` pixels of the working grid, a multiple of 16 (public code: 128), and should
    contain `pad` pixels around the organ's box. The coarse probability `threshold` makes an organ worth a query; the
    `margin_slices` above and below are queried too. Neighbouring windows share the fraction `overlap` at least.
    """

    def __init__(
        self, patch_size: int = 128, threshold: float = 0.3, margin_slices: int = 1, overlap: float = 0.25, pad: int = 8
    ) -> None:
        super().__init__()
        if patch_size < 32 or patch_size % 16:
            raise ValueError(f"patch_size {patch_size} does not fit the encoder: give a multiple of 16, at least 32.")
        if not 0 < threshold < 1:
            raise ValueError(f"query threshold {threshold} is not a probability between 0 and 1, for example 0.3.")
        if not 0 <= overlap < 1 or margin_slices < 0 or pad < 0:
            raise ValueError(
                f"overlap {overlap} is not in [0, 1), or margin_slices {margin_slices} or pad {pad} below 0."
            )
        self.patch_size, self.margin_slices, self.pad = int(patch_size), int(margin_slices), int(pad)
        self.threshold, self.overlap = float(threshold), float(overlap)

    def extra_repr(self) -> str:
        """The settings, by which plans that were made before are known."""
        names = ("patch_size", "threshold", "margin_slices", "overlap", "pad")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def forward(self, maps: Tensor, shape_x: int, shape_y: int) -> Tensor:
        """Plan the queries of one volume, whose slices have (shape_x, shape_y) pixels of the working grid.

        Maps are [slice, organ, x, y] on the coarse in-plane grid, probabilities in [0, 1]. Returned is [query, 4] int64
        of (slice, organ, x and y of the window's first pixel). Windows lie in the slice, or begin at 0 (padded).
        """
        indices, boxes = organ_boxes(maps, self.threshold, self.margin_slices)
        patch, overlap, pad = self.patch_size, self.overlap, self.pad
        to_x, to_y = shape_x / maps.shape[2], shape_y / maps.shape[3]
        low_x, high_x = boxes[:, 0] * to_x - pad, (boxes[:, 1] + 1) * to_x + pad
        low_y, high_y = boxes[:, 2] * to_y - pad, (boxes[:, 3] + 1) * to_y + pad
        count_x, walk_x = window_corners(low_x, high_x, patch, overlap, shape_x)
        count_y, walk_y = window_corners(low_y, high_y, patch, overlap, shape_y)
        total = count_x * count_y
        which = torch.repeat_interleave(torch.arange(total.shape[0], device=maps.device), total)
        within = torch.arange(which.shape[0], device=maps.device) - (torch.cumsum(total, 0) - total)[which]
        along_x = within % count_x[which]
        along_y = torch.div(within, count_x[which], rounding_mode="floor")
        corner_x = torch.round(walk_x[which, 0] + along_x * walk_x[which, 1]).to(torch.int64)
        corner_y = torch.round(walk_y[which, 0] + along_y * walk_y[which, 1]).to(torch.int64)
        return torch.stack([indices[which, 0], indices[which, 1], corner_x, corner_y], dim=1)
