"""The contrastive training step as the public code around the method does it (MASILab/DCC_CL), written anew.

One pair of 8-bit PNG files for each patch, image and coarse mask, both tripled to RGB; two views of a pair with random
transforms patch by patch; a ResNet-50 with six input channels whose 3 x 3 stem has stride 1 and no pool; a Python loop
over all pairs of views for the weights of the loss, which computes the mean intensity of a view again for every pair.
One thing differs: the priors are in [0, 1], because in 0 to 255, as there, they make the loss NaN.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from monai.utils.module import optional_import
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from scripts.networks.contrastive import ContrastiveNetwork, ProjectionHead
from scripts.networks.encoder import ResNetEncoder

pillow, _ = optional_import("PIL.Image")

PATCH = 128
TEMPERATURE = 0.3
"""Default of the public training script."""


def write_pairs(folder: Path, images: Tensor, attention: Tensor) -> None:
    """Write patches [patch, x, y] in [0, 1] as pairs of PNG files."""
    for name, patches in (("image", images), ("prior", attention)):
        (folder / name).mkdir(parents=True)
        for number, patch in enumerate((patches.clamp(0, 1) * 255).byte().numpy()):
            pillow.fromarray(patch).save(folder / name / f"{number:05}.png")


class PairedViews(Dataset[tuple[list[Tensor], list[Tensor]]]):
    """Two views of each pair of files: images [3, x, y] in [-1, 1] and priors [3, x, y] in [0, 1].

    Args:
        folder: made by :func:`write_pairs`.
    """

    def __init__(self, folder: Path) -> None:
        self.images = sorted((folder / "image").glob("*.png"))
        self.priors = sorted((folder / "prior").glob("*.png"))
        self.random = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], list[Tensor]]:
        image = pillow.open(self.images[index]).convert("RGB")
        prior = pillow.open(self.priors[index]).convert("RGB")
        images, priors = [], []
        for _ in range(2):
            box, angle, flip = self._draw(*image.size)
            images.append((channels_first(augmented(image, box, angle, flip)).float() / 255 - 0.5) / 0.5)
            priors.append(channels_first(augmented(prior, box, angle, flip)).float() / 255)
        return images, priors

    def _draw(self, width: int, height: int) -> tuple[tuple[float, float, float, float], float, bool]:
        """Box of .3 to .7 of the area with sides 3:4 to 4:3, angle of up to 30 degrees, and whether to flip."""
        area = width * height * self.random.uniform(0.3, 0.7)
        ratio = math.exp(self.random.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
        left, top = self.random.uniform(0, width - wide), self.random.uniform(0, height - high)
        return (left, top, left + wide, top + high), self.random.uniform(-30, 30), bool(self.random.random() < 0.5)


def augmented(picture: object, box: tuple[float, float, float, float], angle: float, flip: bool) -> object:
    """Cut the box out of a picture, resize, rotate and flip it."""
    view = picture.resize((PATCH, PATCH), pillow.Resampling.BILINEAR, box=box).rotate(angle)  # type: ignore[attr-defined]
    return view.transpose(pillow.Transpose.FLIP_LEFT_RIGHT) if flip else view


def channels_first(picture: object) -> Tensor:
    """Picture -> [channel, x, y] uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def six_channel_network(encoder: str = "resnet50") -> ContrastiveNetwork:
    """ResNet with the public code's stem, and the same projection head as ours."""
    network = ResNetEncoder(encoder, in_channels=6, stem_stride=1, stem_pool=False, output_stride=32)
    network.stem[0] = nn.Conv2d(6, 64, kernel_size=3, padding=1, bias=False)
    return ContrastiveNetwork(network, ProjectionHead(network.channels[-1]))


def masked_mean(product: NDArray[np.float32]) -> float:
    """Mean of what is not 0 in the product of image and prior."""
    return float(np.sum(product) / np.count_nonzero(product)) if np.sum(product) != 0 else 0.0


def looped_weights(products: Tensor) -> Tensor:
    """Weights [view, view] of products [view, 3, x, y] of image and prior: 1 - |difference of the mean intensities|."""
    views = len(products)
    weights = torch.zeros(views, views)
    for i in range(views):
        own = masked_mean(products[i].numpy())
        for j in range(views):
            other = masked_mean(products[j].numpy())
            weights[i, j] = abs(own - other)
    return 1 - weights


def weighted_contrast(embeddings: Tensor, weights: Tensor) -> Tensor:
    """Contrast of two views per patch, views of one patch half a batch apart; weights inside of the exponential."""
    views = len(embeddings)
    logits = embeddings @ embeddings.T / TEMPERATURE
    logits = logits - logits.amax(dim=1, keepdim=True).detach()
    others = 1 - torch.eye(views, device=logits.device)
    log_probability = logits - torch.log((torch.exp(logits * weights) * others).sum(dim=1, keepdim=True))
    partner = torch.arange(views, device=logits.device).roll(views // 2)
    return -log_probability[torch.arange(views, device=logits.device), partner].mean()
