"""What MONAI Deploy's MonaiBundleInferenceOperator does with an exported file, step by step, after its source.

The SDK itself needs a GPU stack. The steps that can go wrong with a bundle are those below: where in the archive the
configs are looked for, which transforms are left out, what the scan's metadata look like, and how outputs are taken.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

LEFT_OUT = ("LoadImage", "SaveImage")


def configs_of(path: Path) -> ConfigParser:
    """Metadata and the config "inference", from the folder in the archive that is named like the file."""
    parser = ConfigParser()
    with zipfile.ZipFile(path) as archive:
        parser.read_meta(f=json.loads(archive.read(f"{path.stem}/extra/metadata.json")))
        parser.read_config(json.loads(archive.read(f"{path.stem}/extra/inference.json")))
    parser.parse()
    return parser


def without_files(compose: Any) -> Any:
    """Leave out transforms by parts of their class names."""
    kept = [step for step in compose.transforms if not any(name in type(step).__name__ for name in LEFT_OUT)]
    compose.transforms = tuple(kept)
    return compose


def metadata_of(voxels: NDArray[Any], affine: NDArray[np.float64]) -> dict[str, Any]:
    """The operator's metadata of a DICOM series: a right-anterior-superior affine that it calls LPS, no file name."""
    return {
        MetaKeys.ORIGINAL_AFFINE: affine,
        MetaKeys.AFFINE: affine.copy(),
        MetaKeys.SPACE: SpaceKeys.LPS,
        MetaKeys.SPATIAL_SHAPE: np.asarray(voxels.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel",
        "SeriesInstanceUID": "1.2.3",
    }


def segment(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Labels [i, j, k] of a scan [i, j, k] in HU, as the operator would hand them on."""
    parser = configs_of(path)
    device = parser.get_parsed_content("device")
    inferer = parser.get_parsed_content("inferer")
    before = without_files(parser.get_parsed_content("preprocessing"))
    after = without_files(parser.get_parsed_content("postprocessing"))
    (input_name,), (output_name,) = (parser["_meta_"]["network_data_format"][side] for side in ("inputs", "outputs"))
    network = torch.jit.load(path, map_location=device).eval()
    with torch.no_grad():
        scan = MetaTensor.ensure_torch_and_prune_meta(torch.from_numpy(voxels), metadata_of(voxels, affine))
        inputs = before({input_name: scan})
        scores = inferer(inputs=inputs[input_name][None].to(device), network=network)
        outputs = after({output_name: scores[0], **inputs})
    labels: NDArray[np.uint8] = outputs[output_name].cpu().numpy()[0].astype(np.uint8)
    return labels
