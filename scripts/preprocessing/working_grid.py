"""The working grid: one orientation and one spacing for every scan, and the way back to the scan's own grid.

Both stages work on it (axes R, A, S; a fixed spacing in mm), and the fused labels return to the scan's own grid
exactly: same shape, same affine. The way back interpolates the class *scores* linearly and takes the argmax afterwards.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Orientation, Spacing, Transform
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d

from scripts.preprocessing.organ_labels import as_volume
from scripts.preprocessing.resampling import resample_classes

MAX_GRID_VOXELS = 2**29  # of the working grid: 2 GiB of float32, twice a whole body at 1.5 mm; our choice
TOUCHING = np.ones((3, 3, 3))  # voxels that share a face, an edge or a corner belong together
WORLD_AXES = (("L", "R"), ("P", "A"), ("I", "S"))
"""World axes of every affine here, named and not left to the metadata: MONAI Deploy calls its right-anterior-superior
affines "LPS", and MONAI would believe it and turn the patient around, left organs to the right."""


def check_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the spacing (mm, axes R, A, S) as a tuple, or raise ValueError when it is not three positive numbers."""
    if len(spacing) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing):
        expected = "three positive numbers in mm for the axes R-L, A-P and S-I, for example [1.5, 1.5, 3.0]"
        raise ValueError(f"spacing {list(spacing)} is not a voxel size: give {expected}.")
    x, y, z = (float(mm) for mm in spacing)
    return x, y, z


class ToWorkingGrid(Transform):
    """Reorient a scan to R, A, S axes and resample it linearly to a fixed spacing (mm along R-L, A-P, S-I).

    Input: [channel, i, j, k] ``MetaTensor`` in HU, any orientation, or a photograph [channel, i, j], whose spacing is
    in pixels. Output: [channel, x, y, z] float32.
    """

    def __init__(self, spacing: Sequence[float]) -> None:
        self.spacing = check_spacing(spacing)
        space = Spacing(pixdim=self.spacing, mode="bilinear", padding_mode="border", dtype=np.float32)
        self.resample = Compose([Orientation(axcodes="RAS", labels=WORLD_AXES), space])

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """Resample one scan."""
        if image.dim() == 3 and len(image) == 3:  # pixels of a photograph that become one are averaged
            sides = [2 * int(pixels / 2) + 1 for pixels in self.spacing[:2]]
            image = cast("MetaTensor", avg_pool2d(image, sides, 1, [n // 2 for n in sides], count_include_pad=False))
        volume = as_volume(image)
        self._refuse_huge_grid(volume)
        resampled: MetaTensor = self.resample(volume)
        return resampled

    def _refuse_huge_grid(self, volume: MetaTensor) -> None:
        affine, shape = np.abs(np.asarray(volume.affine)[:3, :3]), [int(n) for n in volume.shape[1:]]
        voxels = float(np.prod(np.ceil(affine @ shape / self.spacing) + 1))
        # Negated, so that a NaN is refused as well.
        if not voxels <= MAX_GRID_VOXELS:
            size = f"{voxels:.3g} voxels on the working grid of {self.spacing} mm, at most {MAX_GRID_VOXELS:.3g} fit"
            which = volume.meta.get("filename_or_obj", "the scan")
            raise ValueError(f"{which}: {size}; check the voxel size in its header, or choose a wider spacing.")


class ToWorkingGridd(MapTransform):
    """Dictionary form. MONAI's ``Spacingd`` would write to each key that begins with ``image_``, as in MONAI Label."""

    def __init__(self, keys: KeysCollection, spacing: Sequence[float], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_working_grid = ToWorkingGrid(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample the scans under the keys."""
        return {**data, **{key: self.to_working_grid(data[key]) for key in self.key_iterator(dict(data))}}


class ScoresToScanLabelsd(MapTransform):
    """Class scores [class, x, y, z] on the working grid, background first -> label map [1, i, j, k] of the scan's grid.

    The meta data of the image under `reference` know the working affine and the scan's original affine and shape. A
    class has to reach the threshold. `background` lets the background's own score compete with the classes; then a
    threshold of 0 gives the argmax. `organs` are the names of the classes 1, 2, ...; of those in `one_piece` only the
    largest connected part is kept, other names in it do nothing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "image",
        allow_missing_keys: bool = False,
        threshold: float = 0.5,
        background: bool = False,
        organs: Sequence[str] = (),
        one_piece: Sequence[str] = (),
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference, self.threshold, self.background = reference, threshold, background
        self.one_piece = [index for index, organ in enumerate(organs, start=1) if organ in one_piece]

    def limited_to(self, classes: Sequence[int]) -> "ScoresToScanLabelsd":
        """Itself, which takes no part of other classes away: one of these has the scores of all that are left out."""
        self.one_piece = [index for index in self.one_piece if index in classes]
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the labels under the keys."""
        restored = dict(data)
        meta = data[self.reference].meta
        scan_affine = torch.as_tensor(np.asarray(meta["original_affine"]))
        scan_shape = [int(n) for n in np.asarray(meta["spatial_shape"]).ravel()[:3]]
        for key in self.key_iterator(restored):
            scores = torch.as_tensor(restored[key]).detach()
            if not bool(torch.isfinite(torch.stack(scores.aminmax())).all()):  # either is NaN if a score is
                broken = int((~torch.isfinite(scores)).sum())
                which = meta.get("filename_or_obj", "the scan")
                said = f"{which}: {broken} of {scores.numel()} class scores of the predictor are not finite"
                raise ValueError(f"{said}; check the weights, or run with precision float32.")
            scores = without_other_parts(scores, self.one_piece, self.threshold, self.background)
            first = 0 if self.background else 1
            found = [index for index in range(first, scores.shape[0]) if bool((scores[index] > 0).any())]
            affine, one = data[self.reference].affine, scores.__getitem__
            labels = resample_classes(one, found, affine, scan_affine, scan_shape, self.threshold)
            kept = {name: value for name, value in meta.items() if name != "affine"}
            restored[key] = MetaTensor(labels[None], affine=scan_affine, meta=kept)
        return restored


def without_other_parts(scores: Tensor, classes: Sequence[int], threshold: float, background: bool) -> Tensor:
    """Set the scores of classes in one piece to 0 in every connected part but the largest.

    Scores are [class, x, y, z] in [0, 1], background first, and returned as they are if nothing is removed. A part
    consists of voxels that would get the label of the class on this grid.

    Example: in one row of voxels the scores .9 .8 .1 .7 of a class, at a threshold of .5, become .9 .8 .1 0.
    """
    if not classes:
        return scores
    first = 0 if background else 1
    best, winner = scores[first:].max(dim=0)
    won = torch.where(best >= threshold, winner + first, 0).cpu().numpy()
    result = scores
    for index, box in enumerate(ndimage.find_objects(won), start=1):
        if box is None or index not in classes:
            continue
        parts, count = ndimage.label(won[box] == index, structure=TOUCHING)
        if count < 2:
            continue
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0  # what is not in any part
        others = torch.from_numpy((parts > 0) & (parts != sizes.argmax())).to(scores.device)
        if result is scores:
            result = scores.clone()
        result[index][box].masked_fill_(others, 0.0)
    return result
