"""The slice store: every scan is read and resampled once, then served as memory-mapped slices, which queries index."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.distributed import barrier
from numpy.typing import NDArray
from torch import Tensor
from tqdm.contrib.concurrent import thread_map

from scripts.dataset import datalist_file
from scripts.dicom.headers import file_states
from scripts.files.atomic_write import replacing
from scripts.preprocessing.organ_labels import load_organ_labels
from scripts.preprocessing.resampling import resample_labels
from scripts.preprocessing.scan_reader import check_scan, load_volume
from scripts.preprocessing.working_grid import ToWorkingGrid
from scripts.runtime.processes import shard

HU_RANGE = (-1024, 3071)
STORE_VERSION = 2
"""Part of the name of a stored case, raised when reading or resampling changes. MONAI's LoadImage read the first."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array, whole or not at all."""
    with replacing(path) as temporary:
        np.save(temporary, np.ascontiguousarray(array))


def open_array(path: Path) -> Tensor:
    """Memory-map an array that :func:`save_array` wrote."""
    # A private mapping is copy-on-write, so that nothing changes the file. numpy's own holds a file descriptor for each
    # array, and thousands of photographs are more than a process may have open.
    described: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
    stored = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    kind = torch.from_numpy(np.empty(0, described.dtype)).dtype
    return stored[described.offset :].view(kind).reshape(described.shape)


def stored_name(case: Mapping[str, Any]) -> str:
    """Identifier of a case: its own, or the name of its image file."""
    return str(case.get("case") or datalist_file.case_name(str(case["image"])))


@dataclass(frozen=True)
class StoredCase:
    """One scan on the working grid, with the class indices that were contoured and the index of its contrast phase.

    The image is [slice * channel, x, y] int16: HU (one channel), or colours, slice after slice. The label is [slice, x,
    y] uint8 class indices, None for an unlabelled scan. An unknown phase is 0.
    """

    name: str
    image: Tensor
    label: Tensor | None
    annotated: tuple[int, ...]
    phase: int
    channels: int = 1

    def volume(self) -> Tensor:
        """The slices as a volume [channel, x, y, z], a view."""
        channels_apart: Tensor = self.image.unflatten(0, (-1, self.channels))
        return channels_apart.permute(1, 2, 3, 0)


class SliceStore:
    """Preprocessed slices of any case, on disk and memory-mapped.

    Every run with the same files, organs and spacing (mm) reuses the arrays in `cache_dir`. `workers` threads read and
    resample. A slice has 1 channel in CT, 3 in colour photographs.
    """

    def __init__(
        self,
        organs: Sequence[str],
        spacing: Sequence[float],
        cache_dir: str,
        phases: Sequence[str] = (),
        workers: int = 2,
        channels: int = 1,
    ) -> None:
        self.organs, self.phases = list(organs), list(phases)
        self.grid, self.cache_dir = ToWorkingGrid(spacing), Path(cache_dir)
        self.workers, self.channels = workers, int(channels)
        self._opened: dict[Path, tuple[Tensor, Tensor | None]] = {}

    def prepare(self, cases: Sequence[Mapping[str, Any]]) -> None:
        """Preprocess the cases that are not there yet, with a progress bar; several processes share them."""
        missing = [case for case in shard(cases) if not (self.folder(case) / "done").exists()]
        if missing:
            thread_map(self._write, missing, max_workers=self.workers, desc="slice store", unit="scan")
        barrier()

    def open(self, case: Mapping[str, Any]) -> StoredCase:
        """The slices of one case."""
        folder = self.folder(case)
        if folder not in self._opened:
            if not (folder / "done").exists():
                self._write(case)
            label = open_array(folder / "label.npy") if case.get("label") else None
            self._opened[folder] = open_array(folder / "image.npy"), label
        image, label = self._opened[folder]
        names, phase = case.get("annotated"), case.get("phase")
        contoured = [organ for organ in self.organs if label is not None and (names is None or organ in names)]
        return StoredCase(
            name=stored_name(case),
            image=image,
            label=label,
            annotated=tuple(self.organs.index(organ) + 1 for organ in contoured),
            phase=self.phases.index(phase) if phase in self.phases else 0,
            channels=self.channels,
        )

    def folder(self, case: Mapping[str, Any]) -> Path:
        """Folder of a case, named after everything that its arrays depend on."""
        stamp = [state for file in datalist_file.files_of([case]) for state in file_states(file)]
        values = sorted((case.get("label_values") or {}).items())
        if case.get("ignored_value") is not None:
            values.append(("", case["ignored_value"]))
        channels = [self.channels] * (self.channels > 1)
        key = json.dumps([STORE_VERSION, stamp, self.grid.spacing, self.organs, values, *channels])
        return self.cache_dir / f"{stored_name(case)}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def _write(self, case: Mapping[str, Any]) -> None:
        folder = self.folder(case)
        scan = check_scan(load_volume(case["image"]))
        on_grid = self.grid(scan)
        if on_grid.shape[0] != self.channels:
            raise ValueError(f"{case['image']} has {on_grid.shape[0]} channels, image_channels says {self.channels}.")
        hu = on_grid.as_tensor().clamp(*HU_RANGE).round().to(torch.int16)
        if case.get("label"):
            label = load_organ_labels(case, self.organs, scan=scan)
            resampled = resample_labels(label.as_tensor()[0], label.affine, on_grid.affine, on_grid.shape[1:])
            save_array(folder / "label.npy", resampled.permute(2, 0, 1).contiguous().numpy())
        save_array(folder / "image.npy", hu.permute(3, 0, 1, 2).flatten(0, 1).contiguous().numpy())
        (folder / "done").touch()
