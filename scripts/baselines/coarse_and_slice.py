"""The mean of the class scores of a coarse stage and of the slice network, which know nothing of each other."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.coarse.segmenter import CoarseSegmenter
from scripts.preprocessing.intensity import check_window, soft_tissue_window
from scripts.queries.attention import resized_maps
from scripts.training.resume import load_checkpoint


class CoarseAndSlice(nn.Module):
    """Averages the class scores of both.

    Args:
        predictor: the slice predictor, or any other.
        coarse: a coarse stage.
        coarse_path: checkpoint `coarse.pt` with its weights.
        window: soft-tissue window in HU.

    forward: [batch, channel, x, y, z] in HU on the working grid -> class scores [batch, 1 + organs, x, y, z].

    Raises:
        ValueError: the checkpoint is of another network.
    """

    def __init__(
        self, predictor: nn.Module, coarse: CoarseSegmenter, coarse_path: str | Path, window: tuple[float, float]
    ) -> None:
        super().__init__()
        state = load_checkpoint(coarse_path).get("network")
        if state is None:
            raise ValueError(f"{coarse_path} is no checkpoint of a coarse stage: give the coarse.pt of a training.")
        try:
            coarse.network.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{coarse_path} is of another coarse network: {error}") from error
        self.predictor, self.coarse = predictor, coarse.to(next(predictor.parameters()).device)
        self.lower, self.upper = check_window(window)

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        scores: Tensor = self.predictor(volume)
        return torch.stack([(self._coarse(volume[n]) + scores[n]) / 2 for n in range(volume.shape[0])])

    def _coarse(self, hu: Tensor) -> Tensor:
        """Class scores [1 + organ, x, y, z] of the coarse stage; background is what the organs leave."""
        maps = self.coarse(soft_tissue_window(hu.float(), self.lower, self.upper))
        organs = resized_maps(maps, [hu.shape[1], hu.shape[2], hu.shape[3]])
        return torch.cat([1.0 - organs.sum(dim=0, keepdim=True), organs])
