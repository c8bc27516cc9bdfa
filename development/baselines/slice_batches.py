"""Training batches of the slice baseline: windows of slices with all organs as target, no attention channel.

Same store, geometry, intensities and number of images as the query stage; only the question differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scripts.dataset.client_cases import complete_cases
from scripts.preprocessing.intensity import RandomIntensity, check_window, soft_tissue_window
from scripts.preprocessing.slice_store import SliceStore
from scripts.queries.index import organs_in_slices
from scripts.queries.views import RandomGeometry, gather_blocks, sample_patches, slices_with_neighbours
from scripts.runtime.streams import Batch, BatchStream, in_turns


class SlicePlace(NamedTuple):
    """Where a window lies."""

    case: int  # position in the list of cases
    slice: int
    centre: Tensor  # middle of the window in pixels, [2]


def reach_of(geometry: RandomGeometry, patch: int) -> int:
    """Farthest pixel from the centre of a patch that a random view can show."""
    turned = math.sqrt(2) if geometry.rotation > 0 else 1.0
    return math.ceil(patch / 2 / geometry.zoom[0] * turned + geometry.shift) + 1


class SliceBatches(BatchStream):
    """Balanced batches of slice windows.

    Organs (and background as one more) take turns; a case and a slice that shows the organ are drawn with equal chance,
    and the window, of `patch_size` pixels along either side, lies at random around a pixel of it. Cases without a label
    are left out. `adjacent_slices` neighbours on either side are extra channels.

    A batch has image [window, channel, x, y], label [window, 1, x, y] (class index or IGNORED) and annotated
    [window, 1 + organs] bool.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        store: SliceStore,
        window: Sequence[float],
        patch_size: int,
        batch_size: int,
        geometry: RandomGeometry,
        adjacent_slices: int = 0,
        intensity: RandomIntensity | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.data = [case for case in complete_cases(data, store.organs) if case.get("label")]
        self.store, self.patch_size, self.batch_size = store, int(patch_size), self.share(batch_size)
        self.lower, self.upper = check_window(window)
        self.geometry, self.intensity, self.adjacent_slices = geometry, intensity, adjacent_slices
        self.device = torch.device(device)
        self._slices_of: dict[int, list[tuple[int, Tensor]]] = {}

    def _index(self) -> dict[int, list[tuple[int, Tensor]]]:
        """For each class, the cases and slices that show it; class 0 is any slice."""
        if not self._slices_of:
            self.store.prepare(self.data)
            for number, case in enumerate(self.data):
                stored = self.store.open(case)
                if stored.label is None:
                    continue
                shown = organs_in_slices(stored.label, len(self.store.organs))
                self._slices_of.setdefault(0, []).append((number, torch.arange(len(shown))))
                for organ in stored.annotated:
                    if bool(shown[:, organ].any()):
                        self._slices_of.setdefault(organ, []).append((number, torch.nonzero(shown[:, organ])[:, 0]))
        return self._slices_of

    def plan(self) -> None:
        """Find the slices that show each class."""
        self._index()

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        """Draw windows and cut them."""
        index = self._index()
        classes = in_turns(sorted(index), self.batch_size, generator)
        places = [self._draw(index[organ], organ, generator) for organ in classes]
        matrix, shift = self.geometry(self.batch_size, generator)
        centres = torch.stack([place.centre for place in places]) + shift
        stacks = [self._stack(place.case, place.slice) for place in places]
        blocks, origins = gather_blocks(stacks, centres, reach_of(self.geometry, self.patch_size))
        values, unit = blocks.to(self.device).float(), torch.ones(self.batch_size, 2)
        # Beyond the slice is air, as in the predictor.
        values[:, :-2] = soft_tissue_window(values[:, :-2], self.lower, self.upper) * values[:, -1:]
        sampled = sample_patches(values, centres - origins, matrix, unit, self.patch_size)
        image, inside = sampled[:, :-2], sampled[:, -1:]
        label = sample_patches(values[:, -2:-1], centres - origins, matrix, unit, self.patch_size, mode="nearest")
        if self.intensity is not None:
            image = self.intensity(image, generator)
        image = torch.cat([image, self._maps(places, centres, matrix, inside, generator)], dim=1)
        annotated = torch.zeros(self.batch_size, len(self.store.organs) + 1, dtype=torch.bool)
        for n, place in enumerate(places):
            annotated[n, list(self.store.open(self.data[place.case]).annotated)] = True
        return {"image": image, "label": label, "annotated": annotated}

    def _maps(
        self,
        places: Sequence[SlicePlace],
        centres: Tensor,
        matrix: Tensor,
        inside: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Channels [window, channel, x, y] behind the image; none here."""
        return inside[:, :0]

    def _draw(self, group: Sequence[tuple[int, Tensor]], organ: int, generator: torch.Generator) -> SlicePlace:
        """A case, a slice, and the centre of a window there."""
        case, slices = group[int(torch.randint(len(group), (1,), generator=generator))]
        z = int(slices[int(torch.randint(len(slices), (1,), generator=generator))])
        label = self.store.open(self.data[case]).label
        if label is None:
            raise ValueError(f"case {case} lost its label.")
        if organ == 0:
            return SlicePlace(case, z, torch.rand(2, generator=generator) * torch.tensor(label.shape[1:]))
        pixels = torch.nonzero(label[z] == organ)
        pixel = pixels[int(torch.randint(len(pixels), (1,), generator=generator))].float()
        return SlicePlace(case, z, pixel + (torch.rand(2, generator=generator) - 0.5) * 0.75 * self.patch_size)

    def _stack(self, case: int, z: int) -> Tensor:
        """Neighbouring slices in HU, label of the middle one, ones where the slice is: [channel, x, y] int16."""
        stored = self.store.open(self.data[case])
        index = torch.tensor([z])
        image = slices_with_neighbours(stored.image, index, self.adjacent_slices, self.store.channels)[0]
        label = torch.zeros_like(image[:1]) if stored.label is None else stored.label[z][None].short()
        return torch.cat([image, label, torch.ones_like(label)])
