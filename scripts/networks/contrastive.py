"""Contrastive stage: encoder + pooling + projection head, one unit-norm embedding per view."""

from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from scripts.networks.encoder import QueryEncoder


class ProjectionHead(nn.Module):
    """Pooled features [view, in_features] -> embeddings [view, out_features] of norm 1; sizes of the public code."""

    def __init__(self, in_features: int = 2048, hidden: int = 2048, out_features: int = 256) -> None:
        super().__init__()
        to_hidden, to_out = nn.Linear(in_features, hidden), nn.Linear(hidden, out_features)
        self.layers = nn.Sequential(to_hidden, nn.ReLU(inplace=True), to_out)

    def forward(self, features: Tensor) -> Tensor:
        """Project features."""
        return normalize(self.layers(features).float(), dim=1)


class ContrastiveNetwork(nn.Module):
    """Encoder + pooling + projection head: views [view, channel, x, y] -> embeddings [view, dim].

    The segmentation stage goes on with the encoder. Pooling is "patch", the global average (public code), or
    "attention", the average weighted by the attention channel (our choice): it describes the inside of the organ.
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
