"""The command that lists contours which do not fit their scan, worst first, with a picture of each.

    python -m scripts.dataset_report.doubts --dataset_dir DATASET --run_dir runs/mine --output runs/doubts.html

Training cases are judged by the cross-fitted coarse maps that the run keeps, other cases by its whole network. Without
a run the weights of the bundle judge: of cases that they were trained on they know the contours.
"""

import argparse
import io
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from monai.bundle import ConfigParser
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from scripts.coarse.doubts import fits_of, judge
from scripts.dataset.datalist_file import datalist_path, files_of, read_datalist, split_names
from scripts.dataset.datalists import load_cases
from scripts.drawing.display import Plane, box_around_organs, display_spacing, slices_with_most_organs, to_display_order
from scripts.drawing.html import embedded, table, write_page
from scripts.drawing.overlay import MARGIN_MM, draw_panel
from scripts.files.atomic_write import replacing
from scripts.files.result_files import claim_outputs
from scripts.inference.weights import load_weights
from scripts.preprocessing.slice_store import SliceStore, StoredCase, stored_name
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.composition import trained_config
from scripts.runtime.plain_errors import BUNDLE, start_command
from scripts.runtime.precision import autocast

TRAINING = "training"
COLUMNS = ("exclude", "split", "case", "organ", "kind", "reason", "doubt")
NUMBERS = ("dice", "certainty", "contour_ml", "map_ml", "shift_mm", "shifted_dice")
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


class NetworkMaps(CoarseMaps):
    """The class scores of the whole predictor, which stands in the place of the coarse segmenter, as maps."""

    @torch.no_grad()
    def predict(self, case: Mapping[str, Any], segmenter: Any) -> Tensor:
        """Maps of one case: [slice, organ, x, y] uint8 on the working grid."""
        volume = self.store.open(case).volume().to(self.device).float()
        with autocast(self.device, self.precision):
            scores: Tensor = segmenter.eval()(volume[None])[0, 1:]
        maps = scores.permute(3, 0, 1, 2).float() * 255
        return maps.round().to(torch.uint8).cpu()


def maps_by_split(splits: Sequence[str], run_dir: str | None, scratch: str) -> dict[str, CoarseMaps]:
    """Maps that judge the cases of each split, by a network that has not seen them; scratch is a folder for files."""
    config = trained_config(run_dir) if run_dir else ConfigParser.load_config_file(str(BUNDLE / "configs/train.yaml"))
    parser = ConfigParser({**config, "bundle_root": str(BUNDLE), "output_dir": run_dir or scratch})
    if run_dir and TRAINING in splits and parser["coarse::stage::folds"] < 2:
        raise ValueError(f"{run_dir} was trained with one fold, so its maps know the contours: take two or more.")
    kept: CoarseMaps = parser.get_parsed_content("coarse_maps")
    maps = dict.fromkeys(splits, kept)
    if others := [split for split in splits if not run_dir or split != TRAINING]:
        network = parser.get_parsed_content("network")
        load_weights(network, parser.get_parsed_content("model_path"))
        window, place = (kept.lower, kept.upper), f"{scratch}/maps"
        maps |= dict.fromkeys(others, NetworkMaps(kept.store, network, window, place, kept.device, kept.precision))
    return maps


def find_doubts(dataset_dir: str, run_dir: str | None, splits: Sequence[str], output: str) -> pd.DataFrame:
    """Write the page and, beside it, the table of doubted contours; return the table. Without splits all are judged."""
    content = read_datalist(datalist_path(dataset_dir))
    labelled = [split for split in split_names(content) if any("label" in entry for entry in content[split])]
    with tempfile.TemporaryDirectory() as scratch:
        maps = maps_by_split(list(splits) or labelled, run_dir, scratch)
        store = next(iter(maps.values())).store
        cases = {split: load_cases(dataset_dir, split, store.organs, labelled=True) for split in maps}
        files = [path for split in cases for path in files_of(cases[split])]
        claim_outputs([output, csv_of(output)], [datalist_path(dataset_dir), *files], new=True)
        if unknown := [case["case"] for case in cases.get(TRAINING, []) if run_dir and not maps[TRAINING].has(case)]:
            raise ValueError(
                f"{run_dir} keeps no coarse maps of {', '.join(unknown[:3])}: it was not trained on these cases. Give "
                "the data set of the run, or --splits without training."
            )
        jobs = {stored_name(case): (split, case) for split in cases for case in cases[split]}
        fits = [
            fit
            for split, case in tqdm(jobs.values(), desc="comparing", unit="scan")
            for fit in fits_of(store.open(case), maps[split].of(case), store)
        ]
        doubts, blocks = judge(fits), list[str]()
        for doubt in tqdm(doubts, desc="drawing", unit="contour"):
            split, case = jobs[doubt.fit.case]
            title = f"{len(blocks) + 1}. {doubt.fit.case}, {doubt.fit.organ.replace('_', ' ')}: {doubt.kind}"
            picture = picture_of_doubt(store.open(case), maps[split].of(case), doubt.fit.organ, store)
            blocks.append(f"<p><b>{escape(title)}</b> ({escape(doubt.reason)})</p>{embedded(picture, title, 'jpeg')}")
    kinds = Counter(doubt.kind for doubt in doubts)
    legend = "Coloured: the map of the network. Dashed: the contour. The patient's right is on the left."
    counts = table(["kind", "contours"], [[escape(kind), count] for kind, count in kinds.most_common()])
    heading = f"<p>{len(doubts)} of {len(fits)} contours, worst first. {legend}</p>{counts}"
    write_page(output, "Contours that do not fit their scan", [heading, *blocks])
    rows = [["", jobs[d.fit.case][0], d.fit.case, d.fit.organ, d.kind, d.reason, f"{d.doubt:.3f}"] for d in doubts]
    numbers = [[f"{getattr(d.fit, name):.3f}" for name in NUMBERS] for d in doubts]
    frame = pd.DataFrame([row + more for row, more in zip(rows, numbers, strict=True)], columns=[*COLUMNS, *NUMBERS])
    with replacing(csv_of(output)) as temporary:
        frame.to_csv(temporary, index=False)
    print(f"{output}: {len(doubts)} of {len(fits)} contours; mark those to leave out in {csv_of(output)}")
    return frame


def csv_of(output: str) -> Path:
    """The table that stands beside a page."""
    return Path(output).with_suffix(".csv")


def picture_of_doubt(stored: StoredCase, maps: Tensor, organ: str, store: SliceStore) -> bytes:
    """The map of an organ, coloured, and its contour, dashed, where they are largest: three planes as a JPEG."""
    if stored.label is None:
        raise ValueError(f"{stored.name} has no label, so that there is no contour to show.")
    index = store.organs.index(organ) + 1
    found = interpolate(maps[None, :, index - 1].float(), size=stored.label.shape[1:], mode="bilinear")[0] >= 127.5
    affine = np.diag([*store.grid.spacing, 1.0])
    volumes = (stored.image[:: stored.channels], found * index, (stored.label == index) * index)
    image, *shown = (to_display_order(volume.permute(1, 2, 0).numpy(), affine) for volume in volumes)
    box, spacing = box_around_organs(shown, display_spacing(affine), MARGIN_MM), display_spacing(affine)
    shown = [labels[box] for labels in shown]
    figure = Figure(figsize=(10, 3.4), dpi=72, facecolor="black", layout="constrained")
    for axes, plane in zip(figure.subplots(1, 3), PLANES, strict=True):
        draw_panel(axes, image[box], shown, plane, slices_with_most_organs(shown, plane, 1, index)[0], spacing)
        axes.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format="jpg")
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and the table that the arguments describe."""
    start_command()
    parser = argparse.ArgumentParser(
        prog="python -m scripts.dataset_report.doubts",
        description="List the contours of a data set that do not fit their scan, worst first, with pictures.",
    )
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--run_dir", help="folder of a training on it (default: the weights of the bundle judge)")
    parser.add_argument("--splits", nargs="+", default=[], help="splits to judge (default: all with labels)")
    parser.add_argument(
        "--output", default="runs/doubts.html", help="the page; its table gets .csv (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    find_doubts(options.dataset_dir, options.run_dir, options.splits, options.output)


if __name__ == "__main__":
    main()
