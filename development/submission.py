"""Write the label maps that the BTCV 2015 challenge takes: its file names, its label values, the grid of its scans.

    python -m development.submission --raw_dir RawData --segmentations SEGMENTATIONS --model_path runs/btcv/model.pt

SEGMENTATIONS is what inference wrote for the 20 test scans (img0061_seg.nii.gz ...). Their class indices become the
challenge's values by the organ names in the weights. OUTPUT_DIR gets label0061.nii.gz to label0080.nii.gz and, beside
it, OUTPUT_DIR.zip for the upload.
"""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.dataset.scan_rules import other_grid
from scripts.dataset.volume_file import VolumeFile, read_volume_file
from scripts.files.atomic_write import replacing
from scripts.files.result_files import claim_outputs, result_path
from scripts.inference.predictor import decode_names
from scripts.outputs.scan_outputs import write_labels
from scripts.prepare.btcv import ORGANS, find_files
from scripts.runtime.plain_errors import command_parser
from scripts.runtime.resume import load_checkpoint

logger = logging.getLogger(__name__)


def write_submission(raw_dir: str, segmentations: str, organs: Sequence[str], output_dir: str) -> Path:
    """Write the label maps of all test scans and a zip of them, and return the path of the zip.

    The segmentations are what inference wrote, with the organs in the order of their class indices. ValueError: an
    organ that the challenge does not have, or a label map that does not fit; nothing is written then.
    """
    values = challenge_values(organs)
    scans = find_files(raw_dir).tests
    found = {case: result_path(segmentations, case, "labels") for case in scans}
    problems = [problem for case in scans if (problem := _problem(scans[case], found[case], len(organs)))]
    if not scans:
        problems = ["the challenge's folder has no test scan in Testing/img"]
    if problems:
        unfit = "\n  ".join(problems)
        raise ValueError(f"these label maps cannot be submitted ({len(problems)}); segment the scans again:\n  {unfit}")
    folder = Path(output_dir)
    uploaded = folder.with_name(f"{folder.name}.zip")
    outputs = {case: folder / f"{case.replace('img', 'label')}.nii.gz" for case in scans}  # img0061: label0061.nii.gz
    claim_outputs([*outputs.values(), uploaded], [*scans.values(), *found.values()], new=True)
    for case, path in tqdm(found.items(), desc="submission", unit="scan"):
        label = _load(path)
        write_labels(outputs[case], values[label.voxels.astype(np.uint8)], label.affine, str(scans[case]))
    with replacing(uploaded) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in outputs.values():
            archive.write(path, path.name)
    return uploaded


def challenge_values(organs: Sequence[str]) -> NDArray[np.uint8]:
    """The challenge's value of every class index, background first: ``["liver", "spleen"]`` -> ``[0, 6, 1]``."""
    if unknown := [organ for organ in organs if organ not in ORGANS]:
        raise ValueError(
            f"the challenge has no label for {', '.join(unknown)}; its organs are: {', '.join(ORGANS)}. Give weights "
            "that were trained with these names."
        )
    return np.array([0, *(ORGANS.index(organ) + 1 for organ in organs)], np.uint8)


def organs_of_weights(model_path: str) -> list[str]:
    """Organ names in the order of their class indices, as the weights know them."""
    if not Path(model_path).is_file():
        raise FileNotFoundError(f"no weights at {model_path}; give the model.pt that made the segmentations.")
    state = load_checkpoint(model_path)
    if "organ_names" not in state:
        raise ValueError(f"{model_path} does not know its organs; give the model.pt that made the segmentations.")
    return decode_names(state["organ_names"])


def _problem(scan_path: Path, path: Path, organs: int) -> str:
    """What makes a label map unfit for the challenge, empty if nothing does."""
    if not path.is_file():
        return f"{path}: does not exist"
    scan, label = _load(scan_path), _load(path)
    if difference := other_grid(label.voxels.shape, label.affine, scan.voxels.shape, scan.affine):
        return f"{path}: {difference}"
    highest = int(label.voxels.max())
    return f"{path}: class index {highest}, expected 0 to {organs}" if highest > organs else ""


def _load(path: Path) -> VolumeFile:
    return read_volume_file(str(path))


def main(arguments: Sequence[str] | None = None) -> Path:
    """Write the submission that the arguments describe and return the path of its zip."""
    parser = command_parser("development.submission", __doc__)
    parser.add_argument("--raw_dir", required=True, help="the challenge's RawData folder")
    parser.add_argument("--segmentations", required=True, help="folder of the label maps of the test scans")
    parser.add_argument("--model_path", required=True, help="the weights that made them (an ensemble: of any fold)")
    parser.add_argument("--output_dir", default="runs/submission", help="folder of it (default: %(default)s)")
    options = parser.parse_args(arguments)
    organs = organs_of_weights(options.model_path)
    if absent := [organ for organ in ORGANS if organ not in organs]:
        logger.warning("The weights do not know %s: these stay empty in the submission.", ", ".join(absent))
    path = write_submission(options.raw_dir, options.segmentations, organs, options.output_dir)
    print(path)
    return path


if __name__ == "__main__":
    main()
