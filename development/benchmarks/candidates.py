"""Four ways from a scan's file to a label map on its grid: ours, two bundles of MONAI's model zoo, and nnU-Net.

The zoo's two are built from the settings of their ``inference.json`` (Project-MONAI/model-zoo), with random weights.
nnU-Net's network and sliding window are its package's: `pip install nnunetv2`, best in an environment of its own.
Three departures, in their favour: all compute in the same number format here; SegResNet goes without the softmax before
its argmax, which changes no label and would need a second copy of 105 probability maps; nnU-Net passes over each window
once, where its default adds seven mirrored passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import SegResNet
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityd,
    ScaleIntensityRanged,
    Spacingd,
)
from torch import Tensor, nn

from development.baselines.monai_networks import swin_unetr
from development.benchmarks.phantom_bundle import CONFIGS, QUICK_SETTINGS, OracleCoarse
from scripts.inference.weights import load_weights
from scripts.runtime.precision import PrecisionInferer

QUICK_COARSENING = 6
"""How many times larger the voxels of the others are in the quick mode."""


@dataclass(frozen=True)
class Settings:
    """What the candidates of one run have in common, and what only ours needs.

    Attributes:
        device: cpu or cuda.
        precision: auto, float32 or bfloat16.
        quick: tiny networks and coarse grids.
        model_path: our weights; without them they are random and every organ is queried in every slice.
        config_files: configs of our bundle, the base config first; names within its folder.
        organs: number of organs of our predictor; None: those of the config.
    """

    device: str = "cpu"
    precision: str = "auto"
    quick: bool = False
    model_path: str | None = None
    config_files: Sequence[str] = ("configs/inference.yaml",)
    organs: int | None = None


@dataclass(frozen=True)
class Candidate:
    """One way from the scan to its labels.

    Attributes:
        unit: input of a network pass.
        network: network from image [1, 1, x, y, z] to class scores [1, class, x, y, z], by the inferer.
        preprocessing: {"image": path} -> image [1, x, y, z] on the candidate's grid.
        inferer: called with image and network.
        postprocessing: "pred", class scores [class, x, y, z] -> labels [1, i, j, k] on the scan's grid.
        passes: numbers of units so far, filled by the network.
    """

    unit: str
    network: nn.Module
    preprocessing: Callable[[Any], Any]
    inferer: Callable[..., Tensor]
    postprocessing: Callable[[Any], Any]
    passes: list[int] = field(default_factory=list)


def columns(organs: int, cells: int = 16) -> Tensor:
    """Coarse maps [organ, cells, cells, 1]: every organ an upright column through all slices, each in its own place."""
    maps = torch.zeros(organs, cells, cells, 1)
    for organ in range(organs):
        x, y = 2 + organ * 5 % (cells - 5), 2 + organ * 7 % (cells - 5)
        maps[organ, x : x + 2, y : y + 2] = 1.0
    return maps


def two_stage(settings: Settings) -> Candidate:
    """The predictor of configs/inference.yaml, with its own preprocessing, inferer and way back."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS.parent / name) for name in settings.config_files])
    changes: dict[str, Any] = {"device": f"$torch.device('{settings.device}')", "precision": settings.precision}
    if settings.quick:
        changes.update({**QUICK_SETTINGS, "query_planner::patch_size": 32})
    if settings.organs is not None:
        changes["organs"] = [f"organ_{number}" for number in range(1, settings.organs + 1)]
    parser.update(changes)
    network = parser.get_parsed_content("network").eval()
    if settings.model_path is None:
        network.add_module("coarse", OracleCoarse(network.coarse, columns(len(parser.get_parsed_content("organs")))))
    else:
        load_weights(network, settings.model_path)
    ours = Candidate(
        "queries",
        network,
        parser.get_parsed_content("preprocessing"),
        parser.get_parsed_content("inferer"),
        parser.get_parsed_content("scores_to_labels"),
    )
    network.planner.register_forward_hook(lambda module, inputs, queries: ours.passes.append(len(queries)))
    return ours


def on_grid(settings: Settings, spacing: Sequence[float], intensity: Sequence[Callable[[Any], Any]]) -> Compose:
    """Preprocessing of another's network: axes R, A, S, a spacing in mm, and its intensities."""
    scale = QUICK_COARSENING if settings.quick else 1
    steps: list[Callable[..., Any]] = [
        LoadImaged("image", image_only=True),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        Spacingd("image", pixdim=[scale * mm for mm in spacing], mode="bilinear"),
        *intensity,
        EnsureTyped("image"),
    ]
    return Compose(steps)


def sliding(settings: Settings, network: nn.Module, **windows: Any) -> Callable[..., Tensor]:
    """The zoo's sliding window of 96 voxels, in the run's number format, with a progress bar."""
    slide = SlidingWindowInferer(roi_size=[64 if settings.quick else 96] * 3, progress=True, **windows)
    precise = PrecisionInferer(settings.precision)
    return lambda image, network: precise(image, partial(slide, network=network))


def windowed(settings: Settings, network: nn.Module, image: Compose, back: Compose, **windows: Any) -> Candidate:
    """Another's network as a candidate whose windows are counted."""
    network = network.to(settings.device).eval()
    other = Candidate("windows", network, image, sliding(settings, network, **windows), back)
    network.register_forward_pre_hook(lambda module, inputs: other.passes.append(len(inputs[0])))
    return other


def swin_unetr_btcv(settings: Settings) -> Candidate:
    """swin_unetr_btcv_segmentation: 14 classes; the probabilities go back to the scan's grid before the argmax."""
    image = on_grid(
        settings,
        (1.5, 1.5, 2.0),
        [ScaleIntensityRanged("image", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True)],
    )
    back = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", transform=image, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )
    network = swin_unetr(out_channels=14, feature_size=12 if settings.quick else 48)
    return windowed(settings, network, image, back, sw_batch_size=4, overlap=0.5)


def segresnet_whole_body(settings: Settings) -> Candidate:
    """wholeBody_ct_segmentation, its 1.5 mm model: 105 classes; labels go back to the scan's grid."""
    image = on_grid(
        settings,
        (1.5, 1.5, 1.5),
        [NormalizeIntensityd("image", nonzero=True), ScaleIntensityd("image", minv=-1.0, maxv=1.0)],
    )
    back = Compose(
        [
            AsDiscreted("pred", argmax=True),
            Invertd("pred", transform=image, orig_keys="image", nearest_interp=True, to_tensor=True),
        ]
    )
    network = SegResNet(
        init_filters=8 if settings.quick else 32,
        in_channels=1,
        out_channels=105,
        dropout_prob=0.2,
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
    )
    windows = {"sw_batch_size": 1, "overlap": 0.25, "mode": "gaussian", "padding_mode": "replicate"}
    return windowed(settings, network, image, back, **windows)


def nnunet(settings: Settings) -> Candidate:
    """nnU-Net's plain 3D U-Net at 1.5 mm, as its planner shapes it for windows of 128 voxels: 14 classes.

    Windows overlap by half. The probabilities go back to the scan's grid before the argmax, as its export does it.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    features = [4, 8, 16] if settings.quick else [32, 64, 128, 256, 320, 320]
    stages = len(features)
    shape = {
        **{"n_stages": stages, "features_per_stage": features, "kernel_sizes": [[3, 3, 3]] * stages},
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        **{"n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1), "conv_bias": True},
        **{"conv_op": "torch.nn.Conv3d", "norm_op": "torch.nn.InstanceNorm3d", "nonlin": "torch.nn.LeakyReLU"},
        **{"norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin_kwargs": {"inplace": True}},
    }
    plain = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    network = get_network_from_plans(plain, shape, ["conv_op", "norm_op", "nonlin"], 1, 14, deep_supervision=False)
    whole = {"patch_size": [64 if settings.quick else 128] * 3, "architecture": {}}
    plans = PlansManager({"label_manager": "LabelManager", "configurations": {"3d_fullres": whole}})
    labels = {"labels": {"background": 0, **{f"organ_{value}": value for value in range(1, 14)}}}
    slider = nnUNetPredictor(use_mirroring=False, device=torch.device(settings.device))
    slider.manual_initialization(network, plans, plans.get_configuration("3d_fullres"), None, labels, "", None)
    precise = PrecisionInferer(settings.precision)

    def infer(image: Tensor, network: nn.Module) -> Tensor:
        logits: Tensor = precise(image, lambda batch: slider.predict_sliding_window_return_logits(batch[0])[None])
        return logits.float()

    image = on_grid(settings, (1.5, 1.5, 1.5), [NormalizeIntensityd("image")])
    back = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", transform=image, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )
    return replace(windowed(settings, network, image, back), inferer=infer)


CANDIDATES: dict[str, Callable[[Settings], Candidate]] = {
    "two-stage": two_stage,
    "SwinUNETR": swin_unetr_btcv,
    "SegResNet": segresnet_whole_body,
    "nnU-Net": nnunet,
}
