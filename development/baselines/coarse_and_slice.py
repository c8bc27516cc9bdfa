"""The mean of the class scores of a coarse stage and of the slice network, which know nothing of each other."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from scripts.inference.predictor import Predictor, decode_names
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.queries.attention import resized_maps
from scripts.runtime.resume import load_checkpoint


class CoarseAndSlice(Predictor):
    """Averages the class scores of a predictor and of a coarse stage, whose weights are in a checkpoint `coarse.pt`.

    Raises:
        ValueError: the checkpoint is of another network.
    """

    def __init__(self, predictor: Predictor, coarse: CoarseSegmenter, coarse_path: str | Path) -> None:
        names = decode_names(predictor.organ_names)  # type: ignore[arg-type]
        super().__init__(names, [predictor.lower, predictor.upper], predictor.image_channels)
        state = load_checkpoint(coarse_path).get("network")
        if state is None:
            raise ValueError(f"{coarse_path} is no checkpoint of a coarse stage: give the coarse.pt of a training.")
        try:
            coarse.network.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{coarse_path} is of another coarse network: {error}") from error
        self.predictor, self.coarse = predictor, coarse.to(next(predictor.parameters()).device)

    def scores(self, image: Tensor) -> Tensor:
        """Mean class scores of one volume."""
        organs = resized_maps(self.coarse(image), [image.shape[1], image.shape[2], image.shape[3]])
        coarse = torch.cat([1.0 - organs.sum(dim=0, keepdim=True), organs])
        return (coarse + self.predictor.scores(image)) / 2
