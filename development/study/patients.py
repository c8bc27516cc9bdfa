"""The patients of best, median and worst mean Dice as one picture, from an evaluation's folder.

    python -m development.study.patients runs/mine/evaluation --dataset_dir DATASET --output docs/images/patients.png

The pictures beside a table of scores: what a typical result looks like, and whether the worst one is the network's
fault or the reference's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.transforms import Compose, LoadImaged
from numpy.typing import NDArray

from development.study.comparison import organs_of
from scripts.dataset.datalist_file import files_of
from scripts.dataset.datalists import load_cases
from scripts.drawing.display import (
    Plane,
    box_around_organs,
    display_spacing,
    plain_text,
    slices_with_most_organs,
    to_display_order,
)
from scripts.drawing.overlay import MARGIN_MM, draw_panel, legend_handles
from scripts.evaluation.summary import patients_to_look_at, read_scores
from scripts.files.atomic_write import replacing
from scripts.files.result_files import claim_outputs, result_path
from scripts.preprocessing.organ_labels import IGNORED, LoadOrganLabelsd
from scripts.preprocessing.scan_reader import ScanReader
from scripts.runtime.plain_errors import start_command

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class ScoredPatient:
    """One row of the picture: CT in HU, organs found (`labels`) and contoured (`reference`), all [x, y, z].

    The title is such as "median: openkbp_210, mean Dice .71"; the affine leads from voxel indices to mm.
    """

    title: str
    image: NDArray[Any]
    labels: NDArray[Any]
    reference: NDArray[Any]
    affine: NDArray[np.float64]


def load_patients(folder: Path, cases: Sequence[Mapping[str, Any]], organs: Sequence[str]) -> list[ScoredPatient]:
    """Read the best, the median and the worst patient of an evaluation.

    The folder of the evaluation has scores.csv and a label map CASE_seg.nii.gz for each case; the cases are those of
    the split that was scored, the organs stand in the order of the class indices.

    Raises:
        ValueError: the data set does not have the case.
        FileNotFoundError: the evaluation kept no label map of it.
    """
    by_name = {str(case["case"]): case for case in cases}
    read = Compose(
        [
            LoadImaged(["image", "found"], reader=ScanReader, image_only=True, ensure_channel_first=True),
            LoadOrganLabelsd("label", organs=organs),
        ]
    )
    patients = []
    for word, (name, dice) in patients_to_look_at(read_scores(folder / "scores.csv")).items():
        if name not in by_name:
            raise ValueError(f"no case of the data set is called {name}; give the data set and split that were scored.")
        found = result_path(folder, name, "labels")
        if not found.is_file():
            raise FileNotFoundError(f"{found} does not exist; give the output_dir of an evaluation as it was written.")
        item = read({**by_name[name], "found": str(found)})
        reference = np.asarray(item["label"][0])
        patients.append(
            ScoredPatient(
                title=f"{word}: {name}, mean Dice {dice:.2f}".replace(" 0.", " ."),
                image=np.asarray(item["image"][0]),
                labels=np.asarray(item["found"][0]).astype(np.uint8),
                reference=np.where(reference == IGNORED, 0, reference).astype(np.uint8),
                affine=np.asarray(item["image"].affine, dtype=np.float64),
            )
        )
    return patients


def patients_figure(patients: Sequence[ScoredPatient], organs: Sequence[str], title: str = "") -> Figure:
    """Draw a row for each patient: the axial, coronal and sagittal slice that show the most organs.

    Organs found are coloured areas, the reference is dashed.
    """
    figure = Figure(figsize=(12.0, 0.8 + 3.9 * len(patients)), dpi=100, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    present: list[NDArray[Any]] = []
    for row, patient in zip(figure.subplots(len(patients), len(PLANES), squeeze=False), patients, strict=True):
        image = to_display_order(patient.image, patient.affine)
        maps = [to_display_order(labels, patient.affine) for labels in (patient.labels, patient.reference)]
        spacing = display_spacing(patient.affine)
        box = box_around_organs(maps, spacing, MARGIN_MM)
        shown = [labels[box] for labels in maps]
        present += maps
        for axes, plane in zip(row, PLANES, strict=True):
            (index,) = slices_with_most_organs(shown, plane, 1, len(organs))
            draw_panel(axes, image[box], shown, plane, index, spacing)
            axes.set_axis_off()
        row[0].set_title(plain_text(patient.title), color="white", fontsize=11, loc="left")
    figure.suptitle(plain_text(title), color="white", fontsize=14)
    figure.legend(
        handles=legend_handles(present, organs), loc="outside lower center", ncols=8, labelcolor="white", frameon=False
    )
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study.patients",
        description="Draw the best, median and worst patient by mean Dice: organs found in colour, reference dashed.",
    )
    parser.add_argument("folder", type=Path, help="output_dir of an evaluation run")
    parser.add_argument("--dataset_dir", required=True, help="folder with the dataset.json that was scored")
    parser.add_argument("--split", default="validation", help="split that was scored (default: %(default)s)")
    parser.add_argument("--title", default="", help="heading of the picture")
    parser.add_argument("--output", type=Path, help="PNG to write (default: patients.png in the folder)")
    options = parser.parse_args(arguments)
    organs = organs_of(read_scores(options.folder / "scores.csv"))
    cases = load_cases(options.dataset_dir, options.split, organs)
    output = options.output or options.folder / "patients.png"
    claim_outputs([output], [*files_of(cases), options.folder / "scores.csv"], new=True)
    patients = load_patients(options.folder, cases, organs)
    with replacing(output) as temporary:
        patients_figure(patients, organs, options.title).savefig(temporary, format="png")
    print("\n".join([*(patient.title for patient in patients), f"written: {output}"]))


if __name__ == "__main__":
    start_command()
    main()
