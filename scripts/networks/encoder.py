"""Encoders: the interface of a 2D network that reads a query, and MONAI's ResNets (ResNet-50 in the paper)."""

from collections.abc import Sequence

from monai.networks.nets import resnet18, resnet34, resnet50
from torch import Tensor, nn

from scripts.runtime.resume import load_checkpoint


class QueryEncoder(nn.Module):
    """Interface of an encoder: any 2D network that returns three maps of a query, the finest first.

    A subclass hands three facts to this constructor, which keeps them as attributes, and defines `forward`. Decoder,
    projection head and predictor read nothing else. `in_channels`, which a config gives as train.yaml does, are the
    slices of the window, then the attention; `channels` those of the three maps. `strides` are pixels of the query for
    each pixel of a map, along either axis: powers of 2 of at most 32. The sides of a query are multiples of 16.

    forward: queries [query, in_channels, x, y] -> three maps [query, channels[n], x / strides[n], y / strides[n]].
    TorchScript and ONNX need a `forward` that they can compile.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.in_channels, self.channels, self.strides = int(in_channels), list(channels), list(strides)


RESNETS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def _dilate(layer: nn.Module, dilation: int) -> None:
    """Replace the stride of a ResNet layer by dilation, as DeepLab does, so that its map keeps its size."""
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)


class ResNetEncoder(QueryEncoder):
    """MONAI's ResNet in 2D: queries [query, channel, x, y] -> stem map, layer1 map, last map.

    Args:
        name: resnet18, resnet34 or resnet50 (paper: ResNet-50).
        in_channels: slices plus one attention channel (paper: image and coarse semantic mask).
        stem_stride: stride of the 7 x 7 stem (public code: 1; our default 2 is 4x cheaper).
        stem_pool: max-pool after the stem (public code: none).
        output_stride: 8, 16 or 32 relative to a stem of stride 2 with pool; below 32 layers are dilated, not strided.
        widen_factor: factor on the channels of all layers, as in MONAI.
    """

    def __init__(
        self,
        name: str = "resnet50",
        in_channels: int = 2,
        stem_stride: int = 2,
        stem_pool: bool = True,
        output_stride: int = 16,
        widen_factor: float = 1.0,
    ) -> None:
        if name not in RESNETS:
            raise ValueError(f"encoder '{name}' is unknown: choose one of {', '.join(RESNETS)}.")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride {output_stride} is not possible: choose 8, 16 or 32.")
        if int(64 * widen_factor) < 1:
            raise ValueError(f"widen_factor {widen_factor} leaves no channel of 64: take 1, 0.5 or 0.25, for example.")
        net = RESNETS[name](
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_stride=stem_stride,
            no_max_pool=not stem_pool,
            feed_forward=False,
            bias_downsample=False,
            widen_factor=widen_factor,
        )
        if output_stride <= 16:
            _dilate(net.layer4, 2 if output_stride == 16 else 4)
        if output_stride == 8:
            _dilate(net.layer3, 2)
        expansion = 4 if name == "resnet50" else 1
        narrow, wide = int(64 * widen_factor), int(512 * widen_factor)
        fine = stem_stride * (2 if stem_pool else 1)
        channels = [narrow, narrow * expansion, wide * expansion]
        super().__init__(in_channels, channels, strides=[stem_stride, fine, fine * output_stride // 4])
        self.stem = nn.Sequential(net.conv1, net.bn1, net.act)
        self.pool = net.maxpool if stem_pool else nn.Identity()
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, queries: Tensor) -> list[Tensor]:
        """Encode queries."""
        stem = self.stem(queries)
        first = self.layer1(self.pool(stem))
        return [stem, first, self.layer4(self.layer3(self.layer2(first)))]


def load_torchvision_weights(encoder: QueryEncoder, path: str | None) -> None:
    """Begin with the weights of torchvision's ResNet of the same name, a state dict in a file; None: at random.

    Channels behind the three colours, the attention, have no effect at first. Ours are not normalised: the batch norm
    behind the first layer learns its statistics anew. ValueError: weights of another network, or no colours.
    """
    if path is None:
        return
    own, renamed = encoder.state_dict(), {"conv1": "stem.0", "bn1": "stem.1"}
    split = {name.partition("."): value for name, value in load_checkpoint(path).items()}
    state = {f"{renamed.get(first, first)}.{rest}": of for (first, _, rest), of in split.items() if first != "fc"}
    try:
        colours = own["stem.0.weight"].zero_()
        colours[:, :3] = state["stem.0.weight"]
        encoder.load_state_dict({**state, "stem.0.weight": colours})
    except (KeyError, RuntimeError) as error:
        expected = "torchvision's ResNet of encoder::name, encoder::widen_factor 1, and photographs (image_channels 3)"
        raise ValueError(f"the weights {path} do not fit the encoder ({error}): expected {expected}.") from error
