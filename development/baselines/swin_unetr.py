"""MONAI's SwinUNETR, with a sentence where its optional package is missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from monai.networks.nets import SwinUNETR


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
