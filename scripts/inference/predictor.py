"""The product: one network from a volume to class scores, coarse stage and query stage together.

Validation, inference, MONAI Label, export and ``monai.bundle.load`` all use this module (scriptable by TorchScript).
"""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from scripts.inference.fusion import background_score, blending_weights, paste
from scripts.networks.coarse_segmenter import CoarseSegmenter
from scripts.networks.segmenter import QuerySegmenter
from scripts.preprocessing.intensity import check_window, soft_tissue_window
from scripts.queries.attention import AttentionMap, maps_on_slices, resized_maps
from scripts.queries.planner import QueryPlanner
from scripts.queries.softmax_queries import asked_logits, attended_logits
from scripts.queries.views import slices_with_neighbours

SLAB_VALUES = 2**20
"""Pixels of an organ's slices that are fused at once; bounds the memory of a slab to about 4 MiB per buffer."""


def encode_names(names: Sequence[str]) -> Tensor:
    """Organ names as bytes, so that a state dict knows its organs: [byte] uint8."""
    return torch.tensor(list("\n".join(names).encode("utf-8")), dtype=torch.uint8)


def decode_names(encoded: Tensor) -> list[str]:
    """Inverse of :func:`encode_names`."""
    return bytes(encoded.tolist()).decode("utf-8").split("\n")


def check_finite(values: Tensor, stage: str) -> None:
    """Raise ValueError where a stage answers with NaN or infinity, which would end as "no organ"."""
    low, high = torch.aminmax(values)  # NaN if a value is, in a tenth of the time of looking at each
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ValueError(f"the {stage} stage gave values that are not finite; check the weights, or run in float32.")


def slices_of(volume: Tensor) -> Tensor:
    """Slices [slice * channel, x, y] of a volume [channel, x, y, z]."""
    return volume.permute(3, 0, 1, 2).flatten(0, 1).contiguous()


class Predictor(nn.Module):
    """Base of everything that segments volumes; a subclass defines `scores`.

    The organs stand in the order of their class indices (1, 2, ...); background is 0. The soft-tissue window is in HU
    (public code: [-175, 275]). A slice has 1 channel in CT; 3 in colour photographs, which are volumes of one slice.

    forward: [batch, image_channels, x, y, z] in HU (photographs: 0 to 255) on the working grid -> class scores
    [batch, 1 + organs, x, y, z] in [0, 1], whose argmax is the label map.
    """

    def __init__(self, organs: Sequence[str], window: Sequence[float], image_channels: int = 1) -> None:
        super().__init__()
        self.lower, self.upper = check_window(window)
        self.image_channels = int(image_channels)
        self.register_buffer("organ_names", encode_names(organs))

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        if volume.dim() != 5 or volume.shape[1] != self.image_channels:
            expected = f"[batch, {self.image_channels}, x, y, z]"
            got = f"the predictor got a tensor of shape {list(volume.shape)}; it expects {expected}"
            raise ValueError(f"{got} in Hounsfield units (photographs: 0 to 255) on the working grid.")
        images = soft_tissue_window(volume.float(), self.lower, self.upper)
        scores = [self.scores(images[n]) for n in range(len(images))]
        return scores[0].unsqueeze(0) if len(scores) == 1 else torch.stack(scores)  # one needs no second copy

    def scores(self, image: Tensor) -> Tensor:
        """Class scores [1 + organ, x, y, z] of one windowed volume [channel, x, y, z] in [0, 1]."""
        raise NotImplementedError("this predictor has no scores: use a subclass that defines them.")


class TwoStagePredictor(Predictor):
    """Coarse stage, then a query for each organ, slice and window.

    `attention` is the form of the attention channel, `segmenter` the query network, whose output is the organ, or the
    background and each organ; it gets `batch_size` queries in one pass. `adjacent_slices` neighbours on either side are
    extra channels (paper: 0). `coarse_weight` is the coarse share of the result (paper: 0; docs/studies/openkbp.md). Of
    several `passes`, all after the first attend to the mean of coarse map and answer (paper: 1; docs/studies/btcv.md).

    forward: as of :class:`Predictor`; scores are float16. Organs that :func:`limited_to` leaves out are not queried.
    The score of the first of them is the highest coarse probability of all, so that a wanted organ does not get their
    voxels; those of the others are 0.
    """

    def __init__(
        self,
        organs: Sequence[str],
        window: Sequence[float],
        coarse: CoarseSegmenter,
        attention: AttentionMap,
        planner: QueryPlanner,
        segmenter: QuerySegmenter,
        adjacent_slices: int = 0,
        batch_size: int = 32,
        coarse_weight: float = 0.0,
        image_channels: int = 1,
        passes: int = 1,
    ) -> None:
        super().__init__(organs, window, image_channels)
        if passes < 1 or adjacent_slices < 0 or not 0 <= coarse_weight <= 1:
            given = f"passes is {passes} (1 or more), adjacent_slices {adjacent_slices} (0 or more)"
            raise ValueError(f"{given}, coarse_weight {coarse_weight} (0 to 1): one is outside of its range.")
        channels = (2 * adjacent_slices + 1) * image_channels + 1
        if segmenter.encoder.in_channels != channels:
            given = f"the encoder takes {segmenter.encoder.in_channels} channels, but a query has {channels}"
            raise ValueError(f"{given}: {channels - 1} of the image and 1 attention. Set in_channels to {channels}.")
        self.coarse, self.attention, self.planner = coarse, attention, planner
        # Queries are cut plane by plane; weights that lie channels-last make the convolutions take them so.
        self.segmenter = segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adjacent_slices, self.batch_size = int(adjacent_slices), int(batch_size)
        self.coarse_weight, self.slab_values, self.passes = float(coarse_weight), SLAB_VALUES, int(passes)
        self.wanted = list(range(len(organs)))
        self.register_buffer("blend", blending_weights(planner.patch_size), persistent=False)

    def scores(self, image: Tensor) -> Tensor:
        """Class scores of one volume."""
        coarse = self.coarse(image)
        check_finite(coarse, "coarse")
        slices, shape = self._with_room(slices_of(image)), list(image.shape[1:])
        scores = self._answers(coarse, slices, shape)
        for _ in range(1, self.passes):
            maps = coarse.clone()
            for organ in self.wanted:
                answer = scores[1 + organ][None, None].float()
                maps[organ] = (coarse[organ] + interpolate(answer, size=list(coarse.shape[1:]), mode="area")[0, 0]) / 2
            scores = self._answers(maps, slices, shape)
        return scores

    def _answers(self, coarse: Tensor, slices: Tensor, shape: list[int]) -> Tensor:
        """Class scores of a volume of this shape [x, y, z], one organ after another.

        Only scores and coarse maps grow with the number of organs. float16 is enough: only score > 0.5 matters.
        """
        depth, slab = shape[2], max(1, self.slab_values // (shape[0] * shape[1]))
        scores = torch.zeros([1 + coarse.shape[0], shape[0], shape[1], depth], dtype=torch.half, device=slices.device)
        rival, others = torch.zeros_like(coarse[:1]), 0
        for organ in range(coarse.shape[0] - 1, -1, -1):
            if organ not in self.wanted:
                rival, others = torch.maximum(rival, coarse[organ]), 1 + organ
        if others > 0:
            scores[others] = resized_maps(rival, shape)[0]
        for organ in self.wanted:
            maps = maps_on_slices(coarse[organ : organ + 1], depth)
            queries = self.planner(maps, shape[0], shape[1])
            queries[:, 1] = organ
            for first in range(0, depth, slab):
                last = min(first + slab, depth)
                chosen = queries[(queries[:, 0] >= first) & (queries[:, 0] < last)]
                fused = self._fuse_slab(slices, maps[first:last], chosen, first, shape[:2])
                check_finite(fused, "query")
                scores[1 + organ, :, :, first:last] = fused.permute(1, 2, 0)
        scores[0] = background_score(scores[1:])
        return scores

    def _with_room(self, slices: Tensor) -> Tensor:
        """Slices [slice, x, y] filled up with air, or maps with 0, where they are smaller than a patch."""
        patch = self.planner.patch_size
        return pad(slices, [0, max(0, patch - slices.shape[2]), 0, max(0, patch - slices.shape[1])])

    def _fuse_slab(self, slices: Tensor, maps: Tensor, queries: Tensor, first: int, shape: list[int]) -> Tensor:
        """Probabilities [slice, x, y] of one organ in slices of a shape (x, y), from the slice `first` on.

        Maps [slice, 1, x', y'] and queries are those of the organ there; `slices` are all, with room for a patch.
        """
        coarse = interpolate(maps, size=shape, mode="bilinear", align_corners=False)[:, 0]
        attention = self._with_room(coarse)
        total, weight = torch.zeros_like(attention), torch.zeros_like(attention)
        for start in range(0, queries.shape[0], self.batch_size):
            batch = queries[start : start + self.batch_size]
            patches = self._crop(slices, attention, batch, first)
            logits = self.segmenter(patches).float()
            if logits.shape[1] > 1:
                asked = 1 + batch[:, 1].to(logits.device)
                logits = asked_logits(attended_logits(logits, patches[:, -1:], asked), asked)
            probability = torch.sigmoid(logits)[:, 0]
            windows = torch.stack([batch[:, 0] - first, batch[:, 2], batch[:, 3]], dim=1)
            paste(total, weight, probability, windows, self.blend)  # type: ignore[arg-type]
        fine = (total / weight.clamp(min=1e-6))[:, : shape[0], : shape[1]]
        return (1.0 - self.coarse_weight) * fine + self.coarse_weight * coarse

    def _crop(self, slices: Tensor, attention: Tensor, queries: Tensor, first: int) -> Tensor:
        """Query patches [query, channel, x, y]: neighbouring slices, then the attention of the organ."""
        size, x, y = self.planner.patch_size, queries[:, 2], queries[:, 3]
        numbers = torch.arange(slices.shape[0], device=slices.device)
        wanted = slices_with_neighbours(numbers, queries[:, 0], self.adjacent_slices, self.image_channels)
        # A view of every window there is; those of the queries are copied.
        image = slices.unfold(1, size, 1).unfold(2, size, 1)[wanted, x[:, None], y[:, None]]
        prior = attention.unfold(1, size, 1).unfold(2, size, 1)[queries[:, 0] - first, x, y]
        return torch.cat([image, self.attention(prior[:, None])], dim=1)


def class_indices(organs: Sequence[str], wanted: str | Sequence[str]) -> list[int]:
    """Class indices, in ascending order, of one wanted organ or several; ValueError if one is none of the network's."""
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names or [""]:
        if name not in organs:
            near = get_close_matches(str(name), organs, 1, cutoff=0.0)[0]
            raise ValueError(f"'{name}' is no organ of this network, give '{near}' or another of {', '.join(organs)}.")
    return sorted({organs.index(name) + 1 for name in names})


def limited_to(predictor: nn.Module, classes: Sequence[int]) -> nn.Module:
    """The predictor itself, whose two-stage parts query the organs of these class indices only; others score all."""
    for part in predictor.modules():
        if isinstance(part, TwoStagePredictor):
            part.wanted = [index - 1 for index in classes]
    return predictor
