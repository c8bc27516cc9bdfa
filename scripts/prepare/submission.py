"""Write the label maps that the BTCV 2015 challenge takes: its file names, its label values, the grid of its scans.

    python -m scripts.prepare.submission --raw_dir RawData --segmentations SEGMENTATIONS --model_path runs/btcv/model.pt

SEGMENTATIONS is what inference wrote for the 20 test scans (img0061_seg.nii.gz ...). Their class indices become the
challenge's values by the organ names in the weights, so that a network with other organs or another order is right.
OUTPUT_DIR gets label0061.nii.gz to label0080.nii.gz and, beside it, OUTPUT_DIR.zip for the upload.
"""

from __future__ import annotations

import argparse
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.files.atomic_write import replacing
from scripts.files.result_files import claim_outputs, result_path
from scripts.inference.predictor import decode_names
from scripts.prepare.btcv_layout import ORGANS, case_of, find_files, find_raw_data, label_file_of
from scripts.runtime.plain_errors import start_command
from scripts.runtime.resume import load_checkpoint

AFFINE_TOLERANCE_MM = 1e-3
logger = logging.getLogger(__name__)


def write_submission(raw_dir: str, segmentations: str, organs: Sequence[str], output_dir: str) -> Path:
    """Write the label maps of all test scans, and a zip of them.

    Args:
        raw_dir: the challenge's RawData folder.
        segmentations: folder of the label maps that inference wrote.
        organs: organ names in the order of their class indices.
        output_dir: folder of the submission.

    Returns:
        Path of the zip.

    Raises:
        ValueError: an organ that the challenge does not have, or a label map that is missing, on another grid than its
            scan or with other values; nothing is written then.
    """
    values = challenge_values(organs)
    scans = {case_of(number): path for number, path in find_files(find_raw_data(raw_dir)).tests.items()}
    found = {case: result_path(segmentations, case, "labels") for case in scans}
    if problems := _problems(scans, found, len(organs)):
        listed = "\n  ".join(problems)
        raise ValueError(
            f"these label maps cannot be submitted ({len(problems)}); segment the scans again:\n  {listed}"
        )
    folder = Path(output_dir)
    uploaded = folder.with_name(f"{folder.name}.zip")
    outputs = [*(folder / label_file_of(case) for case in scans), uploaded]
    claim_outputs(outputs, [*scans.values(), *found.values()], new=True)
    for case, path in tqdm(found.items(), desc="submission", unit="scan"):
        _write_label(folder / label_file_of(case), values[_label_map(path)], scans[case])
    with replacing(uploaded) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for case in found:
            archive.write(folder / label_file_of(case), label_file_of(case))
    return uploaded


def challenge_values(organs: Sequence[str]) -> NDArray[np.uint8]:
    """The challenge's value of every class index, background first: ``["liver", "spleen"]`` -> ``[0, 6, 1]``.

    Raises:
        ValueError: an organ is none of the challenge's 13.
    """
    unknown = [organ for organ in organs if organ not in ORGANS]
    if unknown:
        raise ValueError(
            f"the challenge has no label for {', '.join(unknown)}; its organs are: {', '.join(ORGANS)}. Give weights "
            "that were trained with these names."
        )
    return np.array([0, *(ORGANS.index(organ) + 1 for organ in organs)], np.uint8)


def organs_of_weights(model_path: str) -> list[str]:
    """Organ names in the order of their class indices, as the weights know them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no predictor.
    """
    if not Path(model_path).is_file():
        raise FileNotFoundError(f"no weights at {model_path}; give the model.pt that made the segmentations.")
    state = load_checkpoint(model_path)
    if "organ_names" not in state:
        raise ValueError(f"{model_path} does not know its organs; give the model.pt that made the segmentations.")
    return decode_names(state["organ_names"])


def _problems(scans: Mapping[str, Path], found: Mapping[str, Path], organs: int) -> list[str]:
    if not scans:
        return ["the challenge's folder has no test scan in Testing/img"]
    return [problem for case in scans if (problem := _problem(scans[case], found[case], organs))]


def _problem(scan_path: Path, path: Path, organs: int) -> str:
    """What makes a label map unfit for the challenge, empty if nothing does."""
    if not path.is_file():
        return f"{path}: does not exist"
    scan, label = cast("Any", nib.loadsave.load(scan_path)), cast("Any", nib.loadsave.load(path))
    if label.shape != scan.shape:
        return f"{path}: shape {label.shape}, expected the scan's {scan.shape}"
    if not np.allclose(label.affine, scan.affine, atol=AFFINE_TOLERANCE_MM):
        return f"{path}: another affine than its scan"
    highest = int(_label_map(path).max())
    return f"{path}: class index {highest}, expected 0 to {organs}" if highest > organs else ""


def _label_map(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cast("Any", nib.loadsave.load(path)).dataobj).astype(np.uint8)


def _write_label(path: Path, values: NDArray[np.uint8], scan_path: Path) -> None:
    """Write a label map with the header of its scan: both of its affines stay to the last bit."""
    scan = cast("Any", nib.loadsave.load(scan_path))
    header = scan.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    image: Any = nib.Nifti1Image(values, scan.affine, header)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.prepare.submission",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw_dir", required=True, help="the challenge's RawData folder")
    parser.add_argument("--segmentations", required=True, help="folder of the label maps of the test scans")
    parser.add_argument(
        "--model_path", required=True, help="the weights that made them; of an ensemble, any of its folds"
    )
    parser.add_argument("--output_dir", default="runs/submission", help="folder of it (default: %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> Path:
    """Write the submission that the arguments describe and return the path of its zip."""
    start_command()
    options = build_parser().parse_args(arguments)
    organs = organs_of_weights(options.model_path)
    if absent := [organ for organ in ORGANS if organ not in organs]:
        logger.warning("The weights do not know %s: these stay empty in the submission.", ", ".join(absent))
    path = write_submission(options.raw_dir, options.segmentations, organs, options.output_dir)
    print(path)
    return path


if __name__ == "__main__":
    main()
