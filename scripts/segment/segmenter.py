"""The same in Python: weights are loaded once, then every call segments a scan."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from scripts.dataset.inference_inputs import scan_inputs
from scripts.dataset.volume_file import VolumeFile, nifti_volume, read_volume_file
from scripts.inference.weights import WeightsLoader
from scripts.outputs.measures import MEASURES, MeasureOrgansd, OrganFinding
from scripts.outputs.scan_outputs import SCAN
from scripts.preprocessing.scan_reader import meta_of
from scripts.runtime.plain_errors import chain, is_complaint
from scripts.segment.workflow import inference_workflow

Scan = str | os.PathLike[str] | nib.Nifti1Image | MetaTensor


class Segmenter:
    """Finds organs in scans; the label map is that of ``python -m scripts.segment``.

    The arguments are those of :func:`scripts.segment.workflow.inference_workflow`.

    FileNotFoundError: there is no such run or weights file. ValueError: unknown organ or device, or weights do not fit.

    Example::

        segmenter = Segmenter(organs=["mandible", "larynx"])
        labels, statistics = segmenter("scan.nii.gz")
        nibabel.save(labels, "labels.nii.gz")
        print(statistics["mandible"].volume_ml, statistics["mandible"].mean_hu)
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        run_dir: str | os.PathLike[str] | Sequence[str] | None = None,
        organs: str | Sequence[str] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        with _plain_complaints():
            part = inference_workflow(model_path, run_dir, organs, device).parser.get_parsed_content
            self.organs: list[str] = part("organs")
            self._device, self._inferer = part("device"), part("inferer")
            self._network = part("evaluator::network").eval()
            before, after = part("preprocessing").transforms, part("postprocessing").transforms
            self._before = Compose([step for step in before if not isinstance(step, LoadImaged | EnsureChannelFirstd)])
            measure = MeasureOrgansd("pred", self.organs, part("wanted_classes"))
            self._after = Compose([*(step for step in after if not hasattr(step, "kinds")), measure])
            WeightsLoader(part("model_path"), part("network")).load()

    def __call__(self, scan: Scan, series: str | None = None) -> tuple[nib.Nifti1Image, dict[str, OrganFinding]]:
        """Segment one scan; return its label map and the measures of each organ that was looked for.

        A scan is a file or folder as the command takes it (`series` is one of several DICOM series there); or an image
        in HU, of nibabel (NIfTI) or a ``MetaTensor`` [x, y, z] or [1, x, y, z], whose affine leads to mm (RAS). The
        label map is uint8 on the grid of the scan; its values are class indices: place in `organs` + 1.

        FileNotFoundError: there is no such scan. ValueError: it is not one scan, or cannot be a CT in HU.
        """
        with _plain_complaints(), torch.no_grad():
            name, volume = _volume(scan, series)
            voxels = torch.from_numpy(np.ascontiguousarray(volume.voxels, dtype=np.float32))
            image = MetaTensor(voxels[None], meta={**meta_of(volume), "filename_or_obj": name})
            item = self._before({"image": image, "case": name})
            item["pred"] = self._inferer(item["image"][None].to(self._device), self._network)[0]
            item = self._after({**item, SCAN: voxels.numpy()})
        labels = nib.Nifti1Image(item["pred"][0].numpy(), volume.affine)
        return labels, {finding.organ: finding for finding in item[MEASURES]}


def _volume(scan: Any, series: str | None) -> tuple[str, VolumeFile]:
    """Name and voxels of what a user gives."""
    if isinstance(scan, str | os.PathLike):
        found = [case["image"] for case in scan_inputs(os.fspath(scan), series)]
        if len(found) > 1:
            raise ValueError(f"{scan} holds {len(found)} scans, and a call segments one: give {found[0]} first.")
        return found[0], read_volume_file(found[0])
    if isinstance(scan, nib.Nifti1Image):
        name = scan.get_filename() or "the image"
        scan.update_header()  # an affine that was changed in place is not in the header yet, only in what is saved
        return name, nifti_volume(scan, scan.header, name)
    if not isinstance(scan, MetaTensor):
        raise ValueError(
            f"a scan is a {type(scan).__name__}: give a path, a nibabel.Nifti1Image (of an array: "
            "nibabel.Nifti1Image(array, affine)) or a monai.data.MetaTensor."
        )
    if scan.dim() not in (3, 4) or (scan.dim() == 4 and len(scan) != 1):
        raise ValueError(f"a scan is a MetaTensor of shape {list(scan.shape)}: expected [x, y, z] or [1, x, y, z].")
    affine = np.asarray(scan.affine, dtype=np.float64)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    voxels = scan.as_tensor().detach().cpu().numpy().reshape(scan.shape[-3:])
    volume = VolumeFile(voxels=voxels, affine=affine, header_spacing=spacing, taken_from="affine")
    return str(scan.meta.get("filename_or_obj", "the image")), volume


@contextmanager
def _plain_complaints() -> Iterator[None]:
    """Raise what the user can act on, not what MONAI makes of it."""
    try:
        yield
    except Exception as error:
        for cause in filter(is_complaint, chain(error)):
            raise cause from None
        raise
