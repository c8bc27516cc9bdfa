"""Another family of encoders behind the same interface: MONAI's EfficientNet (Tan and Le, arXiv 1905.11946)."""

from __future__ import annotations

from monai.networks.nets.efficientnet import EfficientNetBNFeatures, MBConvBlock
from torch import Tensor, nn

from scripts.networks.encoder import QueryEncoder


class EfficientNetEncoder(QueryEncoder):
    """The first five stages of an EfficientNet, without ImageNet weights: maps at strides 2, 4 and 16.

    Drop-connect is off (our choice): a run that is resumed would draw other random numbers than one that is not.

    Args:
        name: efficientnet-b0 to efficientnet-b8.
        in_channels: channels of a query.
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
