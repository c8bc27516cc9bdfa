"""The command that lists contours which do not fit their scan, worst first, with a picture of each.

    python -m scripts.dataset_report.doubts --dataset_dir DATASET --run_dir runs/mine --output runs/doubts.html

Training cases are judged by the cross-fitted coarse maps that the run keeps, other cases by its whole network. Without
a run the weights of the bundle judge: of cases that they were trained on they know the contours.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from scripts.coarse.doubts import fits_of, judge
from scripts.dataset.datalist_file import datalist_path, read_datalist, refuse_equal_names, split_names
from scripts.dataset.datalists import load_cases
from scripts.drawing.html import embedded, png, table, write_page
from scripts.drawing.overlay import overlay_figure
from scripts.files.atomic_write import write_text
from scripts.files.result_files import claim_outputs
from scripts.inference.predictor import Predictor
from scripts.inference.weights import load_weights
from scripts.preprocessing.slice_store import SliceStore, StoredCase, stored_name
from scripts.queries.coarse_maps import CoarseMaps
from scripts.runtime.composition import trained_config
from scripts.runtime.plain_errors import BUNDLE, command_parser

TRAINING, JPEG_DPI = "training", 55
NUMBERS = ("dice", "certainty", "contour_ml", "map_ml", "shift_mm", "shifted_dice")


class WholeNetwork(nn.Module):
    """A predictor in the place of the coarse segmenter: its scores of the organs are the maps."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, image: Tensor) -> Tensor:
        """Maps [organ, x, y, z] of a windowed volume [channel, x, y, z]."""
        return self.predictor.scores(image.float())[1:]


def maps_by_split(splits: Sequence[str], run_dir: str | None, scratch: str) -> dict[str, CoarseMaps]:
    """Maps that judge the cases of each split, by a network that has not seen them; scratch is a folder for files."""
    config = trained_config(run_dir) if run_dir else ConfigParser.load_config_file(str(BUNDLE / "configs/train.yaml"))
    parser = ConfigParser({**config, "bundle_root": str(BUNDLE), "output_dir": run_dir or scratch})
    folds = parser["coarse::stage::folds"] > 1 and Path(run_dir or scratch, "coarse_fold0.pt").is_file()
    if run_dir and TRAINING in splits and not folds:
        raise ValueError(f"{run_dir} was not trained in two folds or more, so its maps know the contours.")
    kept: CoarseMaps = parser.get_parsed_content("coarse_maps")
    maps = dict.fromkeys(splits, kept)
    if others := [split for split in splits if not run_dir or split != TRAINING]:
        load_weights(network := parser.get_parsed_content("network"), parser.get_parsed_content("model_path"))
        whole, window = WholeNetwork(network), (kept.lower, kept.upper)
        of_whole = CoarseMaps(kept.store, whole, window, f"{scratch}/maps", kept.device, kept.precision)  # type: ignore[arg-type]
        maps |= dict.fromkeys(others, of_whole)
    return maps


def by_name(cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Split and case by its name, which maps and table go by; a case of training is one whatever else lists it."""
    of_image = {case["image"]: (split, case) for split in sorted(cases, key=TRAINING.__eq__) for case in cases[split]}
    refuse_equal_names([case for _, case in of_image.values()], "the data set")
    return {stored_name(case): (split, case) for split, case in of_image.values()}


def find_doubts(dataset_dir: str, run_dir: str | None, splits: Sequence[str], output: str) -> pd.DataFrame:
    """Write the page and, beside it, the table of doubted contours; return the table. Without splits all are judged."""
    beside = Path(output).with_suffix(".csv")
    claim_outputs([output, beside], [], new=True)
    content = read_datalist(datalist_path(dataset_dir))
    labelled = [s for s in split_names(content) if any(isinstance(e, dict) and e.get("label") for e in content[s])]
    with tempfile.TemporaryDirectory() as scratch:
        maps = maps_by_split(list(splits) or labelled, run_dir, scratch)
        store = next(iter(maps.values())).store
        cases = {split: load_cases(dataset_dir, split, store.organs, labelled=True) for split in maps}
        if unknown := [case["case"] for case in cases.get(TRAINING, []) if run_dir and not maps[TRAINING].has(case)]:
            lack = f"no coarse maps of {', '.join(unknown[:3])}: it was not trained on these cases"
            raise ValueError(f"{run_dir} keeps {lack}. Give the data set of the run, or --splits without training.")
        jobs = by_name(cases)
        bar = tqdm(jobs.values(), desc="comparing", unit="scan")
        fits = [fit for split, case in bar for fit in fits_of(store.open(case), maps[split].of(case), store)]
        rows, blocks = list[dict[str, str]](), list[str]()
        for fit, kind, reason, value in tqdm(judge(fits), desc="drawing", unit="contour"):
            split, case = jobs[fit.case]
            named = {"exclude": "", "split": split, "case": fit.case, "organ": fit.organ, "kind": kind}
            numbers = {name: f"{getattr(fit, name):.3f}" for name in NUMBERS}
            rows.append({**named, "reason": reason, "doubt": f"{value:.3f}", **numbers})
            title = f"{len(rows)}. {fit.case}, {fit.organ.replace('_', ' ')}: {kind}"
            picture = picture_of_doubt(store.open(case), maps[split].of(case), fit.organ, store)
            blocks.append(f"<p><b>{escape(title)}</b> ({escape(reason)})</p>{embedded(picture, title, 'jpeg')}")
    kinds = table(["kind", "contours"], Counter(row["kind"] for row in rows).most_common())
    heading = f"<p>{len(rows)} of {len(fits)} contours, worst first. Coloured: the map. Dashed: the contour.</p>{kinds}"
    write_page(output, "Contours that do not fit their scan", [heading, *blocks])
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["exclude", "split", "case", "organ"])
    write_text(beside, frame.to_csv(index=False, lineterminator="\n"))
    print(f"{output}: {len(rows)} of {len(fits)} contours; mark those to leave out in {beside}")
    return frame


def picture_of_doubt(stored: StoredCase, maps: Tensor, organ: str, store: SliceStore) -> bytes:
    """The map of an organ, coloured, and its contour, dashed, as a JPEG; the case must be labelled."""
    index, size = store.organs.index(organ) + 1, stored.image.shape[1:]
    found = interpolate(maps[None, :, index - 1].float(), size=size, mode="bilinear")[0] >= 127.5
    volumes = (stored.image[:: stored.channels], found * index, (stored.label == index) * index)
    image, labels, contour = (volume.permute(1, 2, 0).numpy() for volume in volumes)  # type: ignore[union-attr]
    figure = overlay_figure(image, labels, np.diag([*store.grid.spacing, 1.0]), store.organs, contour)
    return png(figure, "jpg", JPEG_DPI)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and the table that the arguments describe."""
    parser = command_parser("scripts.dataset_report.doubts", __doc__)
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--run_dir", help="folder of a training on it (default: the weights of the bundle judge)")
    parser.add_argument("--splits", nargs="+", default=[], help="splits to judge (default: all with labels)")
    parser.add_argument("--output", default="runs/doubts.html", help="page; its table gets .csv (default: %(default)s)")
    options = parser.parse_args(arguments)
    find_doubts(options.dataset_dir, options.run_dir, options.splits, options.output)


if __name__ == "__main__":
    main()
