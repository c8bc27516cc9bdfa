"""The slice baseline with the coarse maps of all organs as channels: the coarse stage's knowledge, without queries.

RAP-Net's gain comes from such a channel alone, so this is the control for querying one organ at a time. And
the mean of the class scores of a coarse stage and of the slice network, which know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from development.baselines.slice_batches import SliceBatches, SlicePlace
from development.baselines.slice_predictor import SlicePredictor
from scripts.files.result_files import weights_digest
from scripts.inference.fusion import background_score
from scripts.inference.predictor import Predictor, TwoStagePredictor, decode_names
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.queries.attention import AttentionMap, AttentionPerturbation, maps_on_slices, resized_maps
from scripts.queries.coarse_maps import CoarseMaps
from scripts.queries.views import sample_maps
from scripts.runtime.resume import load_checkpoint


class CoarseChannelBatches(SliceBatches):
    """Slice windows whose last channels are the maps of all organs, with the perturbations of the query stage.

    Slices, soft-tissue window and device are those of the maps; `settings` are the rest of
    :class:`~development.baselines.slice_batches.SliceBatches`.
    """

    def __init__(
        self,
        maps: CoarseMaps,
        attention: AttentionMap,
        perturbation: AttentionPerturbation | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(store=maps.store, window=[maps.lower, maps.upper], **{"device": maps.device, **settings})
        self.maps, self.attention, self.perturbation = maps, attention, perturbation

    def _maps(
        self,
        places: Sequence[SlicePlace],
        centres: Tensor,
        matrix: Tensor,
        inside: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Maps [window, organ, x, y] under the geometry of the windows."""
        maps = [self.maps.of(self.data[place.case])[place.slice] for place in places]
        shapes = [self.store.open(self.data[place.case]).image.shape[1:] for place in places]
        if self.perturbation is not None:
            centres = centres + self.perturbation.displacements(len(places), generator)
        sampled = sample_maps(maps, shapes, centres, matrix, self.patch_size, self.device) * inside
        single = sampled.reshape(-1, 1, self.patch_size, self.patch_size)
        if self.perturbation is not None:
            single = self.perturbation(single, generator)
        attention: Tensor = self.attention(single)
        return attention.reshape(sampled.shape)


class CoarseChannelPredictor(SlicePredictor):
    """Coarse stage, then every slice with the maps of all organs as channels, in the form of the attention."""

    def __init__(self, coarse: CoarseSegmenter, attention: AttentionMap, **settings: Any) -> None:
        super().__init__(**settings)
        self.coarse, self.attention = coarse, attention

    def maps_of(self, image: Tensor) -> Tensor:
        """Coarse maps [slice, organ, x', y'] of the windowed volume [channel, x, y, z]."""
        return maps_on_slices(self.coarse(image), image.shape[3])

    def on_slices(self, maps: Tensor, x: int, y: int) -> Tensor:
        """Interpolate the maps to the pixels of the slices and make attention of them."""
        attention: Tensor = self.attention(interpolate(maps, size=[x, y], mode="bilinear", align_corners=False))
        return attention


class CoarseOnly(Predictor):
    """The coarse stage of a predictor alone: the baseline that the second stage has to beat."""

    def __init__(self, predictor: TwoStagePredictor) -> None:
        names = decode_names(predictor.organ_names)  # type: ignore[arg-type]
        super().__init__(names, [predictor.lower, predictor.upper], predictor.image_channels)
        self.predictor = predictor

    def scores(self, image: Tensor) -> Tensor:
        """Class scores of one volume: the coarse maps on its voxels."""
        organs = resized_maps(self.predictor.coarse(image), [image.shape[1], image.shape[2], image.shape[3]])
        return torch.cat([background_score(organs)[None], organs])


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
        self.coarse_sha256 = weights_digest(Path(coarse_path))  # a setting of the results
        self.predictor, self.coarse = predictor, coarse.to(next(predictor.parameters()).device)

    def scores(self, image: Tensor) -> Tensor:
        """Mean class scores of one volume."""
        organs = resized_maps(self.coarse(image), [image.shape[1], image.shape[2], image.shape[3]])
        coarse = torch.cat([1.0 - organs.sum(dim=0, keepdim=True), organs])
        return (coarse + self.predictor.scores(image)) / 2
