"""Contrastive stage: encoder (and decoder) + pooling + projection head, one unit-norm embedding per view."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder


class ProjectionHead(nn.Module):
    """Pooled features -> unit-norm embedding (public code: 2048 -> 2048 -> 256, ReLU between).

    Args:
        in_features: channels of the map that is pooled: the encoder's last one, or the decoder's features.
        hidden: width of the hidden layer.
        out_features: length of the embedding.
    """

    def __init__(self, in_features: int = 2048, hidden: int = 2048, out_features: int = 256) -> None:
        super().__init__()
        self.in_features = in_features
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
        pooling: "patch", the global average (public code); "attention", the average weighted by the attention
            channel (our choice), which asks what is inside the organ instead of where the attention lies; or
            "decoder", that average over the decoder's features, so that the decoder is trained by contrast too
            (after the local loss of Chaitanya et al., arXiv 2006.10511).
        decoder: for that, the decoder that the segmentation stage goes on with; else None. Its class output gets no
            gradient and stays as it was.

    Raises:
        ValueError: the pooling is unknown, or decoder and head do not fit it.
    """

    def __init__(
        self,
        encoder: ResNetEncoder,
        head: ProjectionHead,
        pooling: str = "patch",
        decoder: DeepLabDecoder | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("patch", "attention", "decoder"):
            raise ValueError(f"pooling '{pooling}' is unknown: choose 'patch', 'attention' or 'decoder'.")
        if (decoder is None) == (pooling == "decoder"):
            given = "no decoder" if decoder is None else "a decoder"
            raise ValueError(
                f"'{pooling}' got {given}: set both, as configs/baselines/decoder_contrast.yaml does, or neither."
            )
        if decoder is not None:
            _check_width(head, decoder.feature_channels)
        self.encoder, self.head, self.pooling, self.decoder = encoder, head, pooling, decoder
        self.unused_output = decoder is not None

    def forward(self, views: Tensor) -> Tensor:
        """Embed views."""
        return self.embed(self.encoder(views), views)

    def embed(self, maps: list[Tensor], views: Tensor) -> Tensor:
        """Embeddings [view, dim] of these views, whose encoder maps are there."""
        features = maps[-1] if self.decoder is None else self.decoder.features(maps)
        if self.pooling == "patch":
            pooled = features.mean(dim=(2, 3))
        else:
            # A trace of uniform weight keeps a view whose attention was dropped from dividing by zero.
            attention = interpolate(views[:, -1:], size=features.shape[2:], mode="area") + 1e-3
            pooled = (features * attention).sum(dim=(2, 3)) / attention.sum(dim=(2, 3))
        embeddings: Tensor = self.head(pooled)
        return embeddings


def _check_width(head: ProjectionHead, channels: int) -> None:
    if head.in_features != channels:
        raise ValueError(
            f"the projection head reads {head.in_features} features, the decoder has {channels}: set "
            "contrastive::network::head::in_features to $@decoder.feature_channels."
        )
