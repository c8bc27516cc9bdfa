"""Self-training: unlabelled scans join the segmentation stage with the coarse maps as their labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from scripts.queries.batches import QueryBatches
from scripts.queries.index import Query

PSEUDO_LABEL = 0.5  # coarse probability from which a pixel of an unlabelled scan counts as the organ


class SelfTrainingBatches(QueryBatches):
    """Query batches in which the label of an unlabelled scan is its thresholded coarse map.

    Takes the arguments of :class:`~scripts.queries.batches.QueryBatches`; `unlabelled_confidence` says how sure the map
    has to be of a query's organ. Labelled scans are as they were.
    """

    def _label(self, query: Query) -> Tensor:
        """Label map of the slice; of an unlabelled scan only the query's organ is in it: [1, x, y] uint8."""
        stored = self._stored[query.case]
        if stored.label is not None:
            return super()._label(query)
        coarse = self.maps.of(self.data[query.case])[query.slice, query.organ - 1].float() / 255
        size = list(stored.image.shape[1:])
        fine = interpolate(coarse[None, None], size=size, mode="bilinear", align_corners=False)[0]
        return (fine >= PSEUDO_LABEL).to(torch.uint8) * query.organ
