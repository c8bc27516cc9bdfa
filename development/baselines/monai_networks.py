"""MONAI's networks in the places of ours: SwinUNETR on the working grid, and an EfficientNet as encoder of queries."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from monai.networks.nets import SwinUNETR
from monai.networks.nets.efficientnet import EfficientNetBNFeatures, MBConvBlock
from torch import Tensor, nn

from scripts.networks.encoder import QueryEncoder


def swin_unetr(out_channels: int, in_channels: int = 1, feature_size: int = 48, **settings: Any) -> SwinUNETR:
    """Build the network; sides of its patches have to be multiples of 32. 48 features are those of MONAI's BTCV bundle.

    Raises:
        ValueError: einops, which the network needs, is not installed.
    """
    if find_spec("einops") is None:
        raise ValueError(
            "SwinUNETR needs the package einops, which the bundle itself does without: "
            "pip install -r requirements-baselines.txt."
        )
    return SwinUNETR(in_channels=in_channels, out_channels=out_channels, feature_size=feature_size, **settings)


class EfficientNetEncoder(QueryEncoder):
    """The first five stages of an EfficientNet, without ImageNet weights: maps at strides 2, 4 and 16.

    Its name is efficientnet-b0 to efficientnet-b8. Drop-connect is off (our choice): a resumed run would draw others.
    """

    def __init__(self, name: str = "efficientnet-b0", in_channels: int = 2) -> None:
        network = EfficientNetBNFeatures(name, pretrained=False, spatial_dims=2, in_channels=in_channels)
        network.set_swish(memory_efficient=False)
        for module in network.modules():
            if isinstance(module, MBConvBlock):
                module.drop_connect_rate = 0.0
        channels = [network._blocks_args[stage].output_filters for stage in (0, 1, 4)]
        super().__init__(in_channels, channels, strides=[2, 4, 16])
        self.stem = nn.Sequential(network._conv_stem_padding, network._conv_stem, network._bn0, nn.SiLU())
        self.fine, self.middle, self.coarse = network._blocks[:1], network._blocks[1:2], network._blocks[2:5]

    def forward(self, queries: Tensor) -> list[Tensor]:
        """Encode queries, whose sides are multiples of 16."""
        fine = self.fine(self.stem(queries))
        middle = self.middle(fine)
        return [fine, middle, self.coarse(middle)]
