"""What users do with a released bundle, in a process that knows nothing of this repository: download, load, segment.

    python released_client.py SOURCE NAME BUNDLE_DIR VOLUME.npy SCAN.nii.gz OUTPUT_DIR

SOURCE is the address of a zip, `hub` (the hub at HF_ENDPOINT), or `there`.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import torch
from monai.bundle import download, download_large_files, load, run


def main(source: str, name: str, bundle_dir: str, volume: str, scan: str, output_dir: str) -> None:
    """Leave class scores of the volume and a label map of the scan in the output folder."""
    root = os.path.join(bundle_dir, name)
    if source == "hub":
        download(name=name, source="huggingface_hub", repo=f"someone/{name}", bundle_dir=bundle_dir, progress=False)
    elif source != "there":
        download(name=name, url=source, bundle_dir=bundle_dir, progress=False)
    if source != "there":
        download_large_files(bundle_path=root)
    sys.path.insert(0, root)
    torch.set_num_threads(1)
    network = load(name, bundle_dir=bundle_dir, workflow_type="inference", device="cpu")
    with torch.no_grad():
        scores = network.eval()(torch.from_numpy(np.load(volume)))
    os.makedirs(output_dir, exist_ok=True)
    np.save(os.path.join(output_dir, "scores.npy"), scores.numpy())
    config, metadata = (os.path.join(root, "configs", file) for file in ("inference.json", "metadata.json"))
    run("inference", config_file=config, meta_file=metadata, bundle_root=root, dataset_dir=scan, output_dir=output_dir)
    print(sys.modules["scripts"].__file__)


if __name__ == "__main__":
    main(*sys.argv[1:])
