"""The part of the predictor that sites of a federated training share: the segmentation stage."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from scripts.networks.segmenter import QuerySegmenter


class SharedSegmenter(nn.Module):
    """A query segmenter whose weights have the names that they have in the whole predictor.

    A server that averages these weights can hand them to whoever evaluates the predictor, and they can be put into
    its `model.pt`: names begin with "segmenter.".

    Args:
        segmenter: the predictor's.

    forward: as :class:`~scripts.networks.segmenter.QuerySegmenter`.
    """

    def __init__(self, segmenter: QuerySegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, queries: Tensor) -> Tensor:
        """Segment the highlighted organ of each query."""
        logits: Tensor = self.segmenter(queries)
        return logits

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that the segmentation stage optimises."""
        return self.segmenter.trainable_parameters()
