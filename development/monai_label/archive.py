"""A DICOM archive of this machine alone: Orthanc with DICOMweb, in a folder of its own, gone when the context ends."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom

PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc/plugins", "/usr/local/share/orthanc/plugins")
DICOMWEB = "libOrthancDicomWeb.so"
START_SECONDS, STOP_SECONDS = 60.0, 20.0


def orthanc_and_plugin() -> tuple[str, str] | None:
    """Paths of Orthanc and its DICOMweb plugin; None where one of them is not installed."""
    program = shutil.which("Orthanc")
    found = [str(path) for folder in PLUGINS if (path := Path(folder) / DICOMWEB).exists()]
    return (program, found[0]) if program and found else None


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Archive:
    """Orthanc as a context: started on entry, stopped on exit. FileNotFoundError if it is not installed.

    Args:
        folder: new folder for what it stores, its settings and its log.
    """

    def __init__(self, folder: Path) -> None:
        installed = orthanc_and_plugin()
        if installed is None:
            raise FileNotFoundError("Orthanc with DICOMweb is missing: apt-get install orthanc orthanc-dicomweb.")
        self.program, plugin = installed
        self.folder, port = folder.absolute(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.dicomweb = f"{self.url}/dicom-web"
        store = str(self.folder / "store")
        self.settings: dict[str, Any] = {"StorageDirectory": store, "IndexDirectory": store}
        self.settings |= {"Plugins": [plugin], "HttpPort": port, "DicomServerEnabled": False}
        self.settings |= {"RemoteAccessAllowed": False, "AuthenticationEnabled": False}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Archive:
        """Start it and wait until it answers; RuntimeError if it does not."""
        self.folder.mkdir(parents=True)
        (self.folder / "settings.json").write_text(json.dumps(self.settings), encoding="utf-8")
        with (self.folder / "log").open("wb") as log:
            command = [self.program, str(self.folder / "settings.json")]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.call("/system")
                return self
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise RuntimeError(f"Orthanc did not start: see {self.folder / 'log'}.") from None
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self.process = None

    def call(self, path: str, body: bytes | None = None) -> bytes:
        """Answer of Orthanc's own REST interface."""
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=body), timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def upload(self, series: Path) -> None:
        """Store the files of a folder."""
        for path in sorted(series.iterdir()):
            self.call("/instances", path.read_bytes())

    def segmentations(self) -> list[Any]:
        """The DICOM-SEG files that it holds, as pydicom reads them."""
        query = {"Level": "Instance", "Query": {"Modality": "SEG"}}
        found = json.loads(self.call("/tools/find", json.dumps(query).encode()))
        return [pydicom.dcmread(io.BytesIO(self.call(f"/instances/{one}/file"))) for one in found]


def segment_voxels(segmentation: Any) -> dict[str, int]:
    """Voxels of each segment of a DICOM-SEG that has any, by its label."""
    names = {one.SegmentNumber: str(one.SegmentLabel) for one in segmentation.SegmentSequence}
    voxels: Counter[str] = Counter()
    for frame, about in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        voxels[names[about.SegmentIdentificationSequence[0].ReferencedSegmentNumber]] += int(frame.sum())
    return {name: count for name, count in voxels.items() if count}
