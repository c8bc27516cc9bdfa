"""Contrastive stage: encoder + pooling + projection head, one unit-norm embedding per view."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from scripts.networks.encoder import QueryEncoder


class ProjectionHead(nn.Module):
    """Pooled features -> unit-norm embedding (public code: 2048 -> 2048 -> 256, ReLU between).

    Args:
        in_features: channels of the encoder's last map, which is pooled.
        hidden: width of the hidden layer.
        out_features: length of the embedding.
    """

    def __init__(self, in_features: int = 2048, hidden: int = 2048, out_features: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out_features)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Project features [view, in_features] to embeddings [view, out_features] of norm 1."""
        return normalize(self.layers(features).float(), dim=1)


class ContrastiveNetwork(nn.Module):
    """Encoder + pooling + projection head: views [view, channel, x, y] -> embeddings [view, dim].

    Args:
        encoder: the encoder that the segmentation stage goes on with.
        head: projection head, thrown away after the stage.
        pooling: "patch", the global average (public code), or "attention", the average weighted by the attention
            channel (our choice), which describes the inside of the organ and not the place of the attention.

    Raises:
        ValueError: the pooling is unknown.
    """

    def __init__(self, encoder: QueryEncoder, head: ProjectionHead, pooling: str = "patch") -> None:
        super().__init__()
        if pooling not in ("patch", "attention"):
            raise ValueError(f"pooling '{pooling}' is unknown: choose 'patch' or 'attention'.")
        self.encoder, self.head, self.pooling = encoder, head, pooling

    def forward(self, views: Tensor) -> Tensor:
        """Embed views."""
        features = self.encoder(views)[-1]
        if self.pooling == "patch":
            pooled = features.mean(dim=(2, 3))
        else:
            # A trace of uniform weight keeps a view whose attention was dropped from dividing by zero.
            attention = interpolate(views[:, -1:], size=features.shape[2:], mode="area") + 1e-3
            pooled = (features * attention).sum(dim=(2, 3)) / attention.sum(dim=(2, 3))
        embeddings: Tensor = self.head(pooled)
        return embeddings
