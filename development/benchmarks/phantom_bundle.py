"""The bundle's own configs on synthetic data, whose coarse stage works and answers from the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor
from torch.nn.functional import interpolate

from development.phantom.dataset import write_phantom_dataset
from scripts.networks.coarse_segmenter import CoarseSegmenter

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

QUICK_SETTINGS: dict[str, Any] = {
    "spacing": [6.0, 6.0, 9.0],
    "coarse_spacing": [12.0, 12.0, 18.0],
    "coarse_network::channels": [4, 8, 8, 8],
    "encoder::name": "resnet18",
}
"""Settings of the quick modes: everything runs, nothing takes long, the ratios mean little."""


def bundle_config(settings: Mapping[str, Any] | None = None) -> ConfigParser:
    """The bundle's configs for abdominal CT with settings, on the CPU."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in ("train.yaml", "data/abdomen.yaml")])
    parser.update({"device": "$torch.device('cpu')", **(settings or {})})
    return parser


def training_config(folder: str, cases: int, quick: bool, settings: Mapping[str, Any]) -> ConfigParser:
    """The training config on a phantom data set with slices and oracle coarse maps ready.

    Args:
        folder: data set, slice store and coarse maps are written there; what is there is used again.
        cases: fully contoured training cases.
        quick: tiny sizes.
        settings: further config settings.
    """
    spacing = ((6.0, 6.0), (9.0, 9.0)) if quick else ((2.0, 2.2), (3.0, 5.0))
    data = write_phantom_dataset(f"{folder}/phantom", cases, 0, 0, 0, *spacing, partial_fraction=0.0)
    places = {"dataset_dir": str(Path(data).parent), "output_dir": f"{folder}/run"}
    quickly = QUICK_SETTINGS if quick else {}
    parser = bundle_config(settings={**places, **quickly, **settings})
    write_oracle_maps(parser)
    return parser


def write_oracle_maps(parser: ConfigParser) -> None:
    """Write the coarse maps of the training cases from their label maps."""
    store, maps = parser.get_parsed_content("slice_store"), parser.get_parsed_content("coarse_maps")
    cases = parser.get_parsed_content("train_cases")
    store.prepare(cases)
    for case in cases:
        if not maps.has(case):
            labels = torch.as_tensor(store.open(case).label).permute(1, 2, 0)
            answer = coarse_maps_of_labels(labels, len(store.organs), maps.segmenter)
            maps.write(case, OracleCoarse(maps.segmenter, answer))


def coarse_maps_of_labels(labels: Tensor, organs: int, segmenter: CoarseSegmenter) -> Tensor:
    """Share of every organ in the coarse voxels: labels [x, y, z] on the working grid -> [organ, x', y', z']."""
    size = segmenter.grid_size(list(labels.shape))
    planes = [(labels == organ).float() for organ in range(1, organs + 1)]
    return torch.stack([interpolate(plane[None, None], size=size, mode="area")[0, 0] for plane in planes])


class OracleCoarse(CoarseSegmenter):
    """A coarse segmenter whose network runs, for its time and memory, and whose answer is given.

    With random weights a coarse network finds nothing or everything, and the number of queries would be unreal.

    Args:
        segmenter: the coarse stage that is imitated.
        maps: its answer [organ, x', y', z'], resized to the coarse grid of the volume.
    """

    def __init__(self, segmenter: CoarseSegmenter, maps: Tensor) -> None:
        # The ratio of the spacings is all that a segmenter keeps of them.
        super().__init__(
            segmenter.network, segmenter.ratio, [1.0] * 3, segmenter.tile, segmenter.overlap, segmenter.multiple
        )
        self.maps = maps

    def forward(self, image: Tensor) -> Tensor:
        """Work, then answer."""
        found = super().forward(image)
        size = [found.shape[1], found.shape[2], found.shape[3]]
        return interpolate(self.maps[None].to(found), size=size, mode="trilinear", align_corners=False)[0]
