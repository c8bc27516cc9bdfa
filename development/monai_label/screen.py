"""MONAI Label on the screen: a DICOM archive, the server, and a person at OHIF, all on this machine.

    python -m development.monai_label.screen --workspace runs/screen --pictures docs/images

Starts Orthanc with a synthetic abdomen, the MONAI Label server on it and Chromium without a window. In the viewer the
study is opened, segmented by the bundle, corrected with the brush and stored; a fine-tuning is started and awaited.
Everything is stopped at the end, also after an error. It needs (Debian) orthanc, orthanc-dicomweb, chromium and
chromium-driver, selenium, and the environment of the server.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from development.monai_label.archive import Archive, free_port, segment_voxels
from development.monai_label.client import Client, ServerRefusal
from development.monai_label.viewer import Viewer
from development.phantom.dataset import write_phantom_dataset
from development.phantom.series import write_phantom_series
from development.release.__main__ import main as release
from scripts.dataset.client_cases import noted_segments
from scripts.dataset.volume_file import read_volume_file
from scripts.files.result_files import digest
from scripts.monai_label.environment import FOLDER, python_of, require
from scripts.monai_label.server import NAME, Server, prepare_app
from scripts.runtime.plain_errors import BUNDLE

STORED = "corrected"
LEAST_COLOUR = 40  # between the channels of a pixel, 0 to 255: images are grey
PICTURE = "monai_label.png"


class Screen:
    """One session at the screen; `findings` says for each claim whether it holds.

    Args:
        bundle: folder of the bundle.
        image: NIfTI file of a synthetic case.
        workspace: new or empty folder; the screenshots are in `pictures`.
        environment: folder of the MONAI Label environment.
        epochs: of the fine-tuning.
    """

    def __init__(self, bundle: Path, image: Path, workspace: Path, environment: Path = FOLDER, epochs: int = 1) -> None:
        if workspace.exists() and any(workspace.iterdir()):
            raise ValueError(f"the workspace {workspace} is not empty: name a new folder, or delete it.")
        self.workspace, self.environment, self.epochs = workspace.absolute(), environment.absolute(), epochs
        self.pictures = self.workspace / "pictures"
        write_phantom_series(image, self.workspace / "series")
        self.bundle = prepare_app(bundle, self.workspace, python_of(self.environment))
        self.findings: dict[str, bool] = {}

    def run(self) -> bool:
        """Start everything, go through the session, stop everything; return whether all claims hold."""
        with Archive(self.workspace / "archive") as archive:
            archive.upload(self.workspace / "series")
            log, app = self.workspace / "server.log", self.workspace / "app"
            with (
                Server(app, archive.dicomweb, free_port(), environment=self.environment, log=log) as server,
                Viewer(server.url, self.workspace / "browser") as viewer,
            ):
                client = Client(server.url)
                try:
                    self._segment(viewer, client)
                    self._correct(viewer, archive)
                    self._fine_tune(viewer, client)
                except RuntimeError:
                    viewer.picture(self.pictures / "problem.png")
                    raise
        return all(self.findings.values())

    def _note(self, claim: str, holds: bool) -> None:
        self.findings[claim] = bool(holds)
        print(f"{'ok    ' if holds else 'FAILED'}  {claim}", flush=True)

    def _segment(self, viewer: Viewer, client: Client) -> None:
        """Open the study, and let the bundle segment it."""
        viewer.open()
        viewer.connect()
        organs: dict[str, int] = client.info()["models"][NAME]["labels"]
        self._note("the viewer lists the bundle's organs", set(viewer.segments()) == set(organs))
        viewer.picture(self.pictures / "opened.png")
        viewer.segment()
        viewer.picture(self.pictures / PICTURE)
        more = coloured(self.pictures / PICTURE) - coloured(self.pictures / "opened.png")
        self._note(f"{more} pixels have got a colour", more > 500)
        (series,) = {path.name for path in (self.workspace / "dicomweb").glob("*/*") if path.is_dir()} - {"labels"}
        label, _ = client.infer(NAME, series, self.workspace / "label", result_extension=".nii.gz")
        counts = Counter(read_volume_file(str(label)).voxels.astype(int).ravel().tolist())
        expected = {organ: counts[index] for organ, index in organs.items() if counts[index]}
        self._note(f"the viewer shows the voxels of {len(expected)} organs", viewer.voxels() == expected != {})

    def _correct(self, viewer: Viewer, archive: Archive) -> None:
        """Paint, and store the result in the archive."""
        before, organ = viewer.voxels(), next(iter(viewer.voxels()))
        viewer.paint(organ)
        corrected = viewer.voxels()
        added = corrected[organ] - before[organ]
        self._note(f"the brush has painted {added} voxels of the {organ}", added > 0)
        viewer.store(STORED)
        deadline = time.monotonic() + 120
        while not archive.segmentations() and time.monotonic() < deadline:
            time.sleep(1)
        found = archive.segmentations()
        self._note("the archive has got one DICOM-SEG", [one.SeriesDescription for one in found] == [STORED])
        self._note("it has the corrected voxels of every organ", segment_voxels(found[0]) == corrected)
        viewer.picture(self.pictures / "corrected.png")
        self.corrected = corrected

    def _fine_tune(self, viewer: Viewer, client: Client) -> None:
        """Start a fine-tuning on the study, and wait for its end."""
        weights = self.bundle / "models" / "model.pt"
        before = digest(weights)
        viewer.fine_tune(NAME, self.epochs)
        viewer.picture(self.pictures / "fine_tuning.png")
        task = client.wait_for_training()
        self._note(f"the fine-tuning ended with status {task['status']}", task["status"] == "DONE")
        self._note("it has changed the weights", digest(weights) != before)
        (label,) = (self.workspace / "dicomweb").glob("*/labels/final/*.nrrd")
        values = noted_segments(str(label))
        held = read_volume_file(str(label)).voxels
        seen = {organ: int(np.sum(held == value)) for organ, value in values.items() if np.any(held == value)}
        self._note("it was trained on the corrected voxels of every organ", seen == self.corrected)


def coloured(picture: Path) -> int:
    """Pixels between the panels of a screenshot that are not grey."""
    pixels = np.asarray(Image.open(picture).convert("RGB"), int)
    pixels = pixels[:, pixels.shape[1] // 5 : -pixels.shape[1] // 5]
    return int(np.sum(np.ptp(pixels, axis=-1) > LEAST_COLOUR))


def synthetic_abdomen_bundle(folder: Path) -> Path:
    """The bundle of the trained synthetic abdomen, made in a folder."""
    about = {"name": "Synthetic abdomen", "version": "1.0.0", "authors": "AGSCL", "description": "Thirteen organs."}
    about |= {"data_source": "Synthetic.", "licence": str(BUNDLE / "LICENSE"), "output_dir": str(folder)}
    about["run_dir"] = str(BUNDLE / "development/synthetic_abdomen")
    if release(["from_run", *(word for name, value in about.items() for word in (f"--{name}", value))]):
        raise RuntimeError("the bundle of the synthetic abdomen could not be made: see above.")
    return folder / "synthetic_abdomen"


def main(arguments: Sequence[str] | None = None) -> int:
    """Go through a session; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m development.monai_label.screen",
        description="MONAI Label with Orthanc and OHIF on screen.",
    )
    parser.add_argument("--workspace", type=Path, help="new folder to work in; default: a temporary one, kept")
    parser.add_argument("--environment", type=Path, default=FOLDER, help="of the server; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=1, help="of the fine-tuning; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="folder for the picture of the documents")
    given = parser.parse_args(arguments)
    workspace = given.workspace or Path(tempfile.mkdtemp(prefix="screen_"))
    made = workspace.with_name(f"{workspace.name}_data")
    try:
        require(given.environment)
        write_phantom_dataset(str(made), 1, 0, 0, in_plane_spacing=(2.6, 3.0), slice_spacing=(5.0, 6.0))
        (image,) = (made / "images").iterdir()
        screen = Screen(synthetic_abdomen_bundle(made), image, workspace, given.environment, given.epochs)
        holds = screen.run()
    except (ServerRefusal, RuntimeError, ValueError, FileNotFoundError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    if given.pictures:
        shown = Image.open(screen.pictures / PICTURE).convert("RGB").quantize(256)
        shown.save(given.pictures / PICTURE, optimize=True)
    print("all claims hold" if holds else "some claims do not hold", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
