"""Check a bundle against the real MONAI Label server: inference and fine-tuning over REST, on this machine.

    python -m development.monai_label.check --bundle .                            # on a synthetic abdomen
    python -m development.monai_label.check --bundle . --dataset_dir MY_DATASET   # on scans of a dataset.json

What the server returns is compared with `python -m monai.bundle run inference` of the same environment, voxel by voxel;
fine-tuning on two newly labelled studies has to change the segmentation network, leave the coarse one as it is and keep
the old weights. Where the data set has some of the bundle's organs only, as the synthetic abdomen has, the studies are
contoured for these only. Everything is done in a workspace; the bundle itself is not touched.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from development.monai_label.client import Client, ServerRefusal
from development.phantom.dataset import write_phantom_dataset
from scripts.dataset.datalist_file import read_datalist, split_names
from scripts.dataset.datalists import load_cases
from scripts.dataset.label_values import organs_of_datalist
from scripts.dataset.volume_file import read_volume_file
from scripts.drawing.overlay import overlay_figure, save_figure
from scripts.files.result_files import digest, result_path
from scripts.monai_label.environment import FOLDER, monai_of, python_of, require
from scripts.monai_label.fine_tuning import PREFIX
from scripts.monai_label.server import NAME, Server, prepare_app
from scripts.outputs.scan_outputs import write_nifti
from scripts.preprocessing.organ_labels import load_organ_labels
from scripts.runtime.plain_errors import BUNDLE
from scripts.runtime.resume import load_checkpoint

LABELLED = 2
"""Studies that are labelled before fine-tuning."""

Case = dict[str, Any]


class Check:
    """The whole check of one bundle; `findings` says for each claim whether it holds.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder with a `dataset.json`: a test or validation scan, and two training cases contoured for
            an organ or more of the bundle's.
        workspace: new or empty folder to work in.
        epochs: epochs of each fine-tuning.
        environment: folder of the MONAI Label environment.
        port: port of the server.
    """

    def __init__(
        self,
        bundle: Path,
        dataset_dir: Path,
        workspace: Path,
        epochs: int = 1,
        environment: Path = FOLDER,
        port: int = 8000,
    ) -> None:
        if workspace.exists() and any(workspace.iterdir()):
            raise ValueError(f"the workspace {workspace} is not empty: name a new folder, or delete it.")
        self.workspace, self.epochs, self.port = workspace.absolute(), epochs, port  # programs run in other folders
        self.environment = environment.absolute()
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        self.organs: list[str] = parser.get_parsed_content("organs")
        datalist = str(Path(dataset_dir) / "dataset.json")
        known = organs_of_datalist(read_datalist(datalist), datalist)
        cases = [case for case in load_cases(str(dataset_dir), "training", known) if self._contoured(case)]
        self.labelled = sorted(cases, key=lambda case: -len(self._contoured(case)))[:LABELLED]
        if len(self.labelled) < LABELLED:
            raise ValueError(
                f"{dataset_dir} has {len(self.labelled)} training cases that are contoured for some of the bundle's "
                f"organs ({', '.join(self.organs)}), expected {LABELLED}: name another data set."
            )
        self.study = load_cases(str(dataset_dir), study_split(datalist), known)[0]
        self.studies = self.workspace / "studies"
        self.studies.mkdir(parents=True)
        for case in [self.study, *self.labelled]:
            shutil.copy2(case["image"], self.studies)
        self.bundle = prepare_app(bundle, self.workspace, python_of(self.environment))
        self.findings: dict[str, bool] = {}

    @property
    def weights(self) -> Path:
        """The weights that the server uses."""
        return self.bundle / "models" / "model.pt"

    def _contoured(self, case: Case) -> dict[str, int]:
        """Class index of each of the bundle's organs that a case is contoured for."""
        return {organ: index for index, organ in enumerate(self.organs, start=1) if organ in case["annotated"]}

    def run(self) -> bool:
        """Start the server, go through the claims, stop it; return whether all of them hold."""
        log = self.workspace / "server.log"
        with Server(
            self.workspace / "app", str(self.studies), self.port, environment=self.environment, log=log
        ) as server:
            client = Client(server.url)
            model = client.info()["models"][NAME]
            expected = {organ.lower(): index for index, organ in enumerate(self.organs, start=1)}
            self._note("the server names the organs with their class indices", model["labels"] == expected)
            self._inference(client, expected, "label")
            for case, as_it_is in zip(self.labelled, (True, False), strict=True):
                self._submit(client, case, as_it_is)
            self._fine_tuning(client, 1)
            self._inference(client, expected, "label_after_fine_tuning")
            self._fine_tuning(client, 2)
        return all(self.findings.values())

    def _note(self, claim: str, holds: bool) -> None:
        self.findings[claim] = bool(holds)
        print(f"{'ok    ' if holds else 'FAILED'}  {claim}", flush=True)

    def _inference(self, client: Client, names: Mapping[str, int], name: str) -> None:
        """Segment the study over REST and with the bundle itself, and compare."""
        when = "" if name == "label" else " after fine-tuning"
        returned, params = client.infer(NAME, self.study["case"], self.workspace / name)
        found, scan = read_volume_file(str(returned)), read_volume_file(self.study["image"])
        labels = found.voxels
        self._note(f"the answer names the organs{when}", params["label_names"] == names)
        self._note(f"the label has the shape of the study{when}", labels.shape == scan.voxels.shape)
        self._note(f"the label has the affine of the study{when}", np.allclose(found.affine, scan.affine, atol=1e-3))
        values = set(np.unique(labels).tolist())
        self._note(f"its {len(values)} values are class indices{when}", values <= {0, *names.values()})
        own = read_volume_file(str(self._bundle_run(name))).voxels
        different = int((own != labels).sum()) if own.shape == labels.shape else -1
        self._note(f"{different} of {labels.size} voxels differ from `monai.bundle run`{when}", different == 0)
        picture = self.workspace / f"{name}.png"
        if labels.any():
            figure = overlay_figure(scan.voxels, labels.astype(np.uint8), scan.affine, self.organs, title="MONAI Label")
            save_figure(figure, picture)

    def _bundle_run(self, name: str) -> Path:
        output = self.workspace / f"bundle_{name}"
        study = self.studies / Path(self.study["image"]).name
        command = [str(python_of(self.environment)), "-m", "monai.bundle", "run", "inference"]
        command += ["--config_file", str(self.bundle / "configs" / "inference.json"), "--bundle_root", str(self.bundle)]
        command += ["--dataset_dir", str(study), "--output_dir", str(output)]
        finished = subprocess.run(command, cwd=self.bundle, capture_output=True, encoding="utf-8")
        if finished.returncode:
            raise RuntimeError(
                f"`monai.bundle run inference` failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}"
            )
        return result_path(output, self.study["case"], "labels")

    def _submit(self, client: Client, case: Case, as_it_is: bool) -> None:
        """Submit a label: the data set's values and all their names, as 3D Slicer does, or class indices.

        These go without names, as a script would send them, where the case is contoured for all of the organs.
        """
        if as_it_is:
            client.save_label(
                case["case"], Path(case["label"]), {o: case["label_values"][o] for o in case["annotated"]}
            )
            return
        label = load_organ_labels(case, self.organs)
        path = self.workspace / "submitted" / f"{case['case']}.nii.gz"
        write_nifti(path, label.as_tensor()[0].numpy(), label.affine.numpy())
        contoured = self._contoured(case)
        client.save_label(case["case"], path, None if len(contoured) == len(self.organs) else contoured)

    def _fine_tuning(self, client: Client, number: int) -> None:
        before, old = load_checkpoint(self.weights), digest(self.weights)
        # All studies are for training; a share for validation is what `val_split` is for.
        task = client.train(NAME, max_epochs=self.epochs, val_split=0, multi_gpu=False)
        which = f"fine-tuning {number}"
        lines = "\n".join(task.get("details", []))
        self._note(f"{which} ended with status {task['status']}", task["status"] == "DONE")
        if task["status"] != "DONE":
            raise RuntimeError(f"{which} failed; its last lines are\n{lines}")
        after = load_checkpoint(self.weights)
        learned = [key for key in after if key.startswith("segmenter.") and after[key].is_floating_point()]
        changed = sum(not torch.equal(before[key], after[key]) for key in learned)
        self._note(f"{which} changed {changed} of {len(learned)} tensors of the segmentation network", changed > 0)
        coarse = [key for key in after if key.startswith("coarse.")]
        same = all(torch.equal(before[key], after[key]) for key in coarse)
        self._note(f"{which} left all {len(coarse)} tensors of the coarse network as they were", bool(coarse) and same)
        finite = all(bool(torch.isfinite(after[key]).all()) for key in learned)
        self._note(f"{which} gave finite weights", finite)
        kept = [path for path in self.weights.parent.glob("*.pt") if digest(path) == old]
        self._note(f"the weights before {which} are kept", len(kept) == 1 and kept[0] != self.weights)
        runs = sorted(path.name for path in self.bundle.rglob(f"{PREFIX}*") if path.is_dir())
        self._note(f"{which} has a folder of its own", len(runs) == number)


def study_split(datalist: str) -> str:
    """The split whose first scan is segmented: test, or validation where there is no test split."""
    return "test" if "test" in split_names(read_datalist(datalist)) else "validation"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m development.monai_label.check", description="Check a bundle against the real server."
    )
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the bundle that this module belongs to")
    parser.add_argument("--dataset_dir", type=Path, help="folder with a dataset.json; default: a synthetic abdomen")
    parser.add_argument("--workspace", type=Path, help="new folder to work in; default: a temporary one, kept")
    parser.add_argument("--epochs", type=int, default=1, help="of each fine-tuning; default: %(default)s")
    parser.add_argument("--environment", type=Path, default=FOLDER, help="of the server; default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    given = parser.parse_args(arguments)
    workspace = given.workspace or Path(tempfile.mkdtemp(prefix="monai_label_"))
    try:
        require(given.environment)
        data = given.dataset_dir
        if data is None:
            data = workspace.with_name(f"{workspace.name}_data")
            write_phantom_dataset(str(data), training=LABELLED, validation=0, test=1, partial_fraction=0.0)
        print(f"monai {monai_of(given.environment)}, workspace {workspace}", flush=True)
        holds = Check(given.bundle, data, workspace, given.epochs, given.environment, given.port).run()
    except (ServerRefusal, RuntimeError, ValueError, FileNotFoundError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print("all claims hold" if holds else "some claims do not hold", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
