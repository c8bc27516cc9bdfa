"""Merge data sets into one, although each is contoured for other organs and has other label values.

    python -m scripts.prepare.merge data/mine data/theirs --output_dir data/both --rename "Right kidney=right_kidney"

An organ that a data set was not contoured for is unknown there, not absent. Every case keeps its split; its name and
its patient begin with the name of its data set. No scan is copied.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.dataset.datalist_file import case_name, has_image, split_names
from scripts.dataset.label_values import BACKGROUND, LabelValues, plain_name, read_label_values, values_of
from scripts.prepare.cohort import DATALIST, add_training_options, labels_of, read_absolute, train_or_tell, write_cohort
from scripts.prepare.split import SPELLINGS, TRAINING, VALIDATION
from scripts.runtime.plain_errors import command_parser


def merge_datalists(
    datalists: Mapping[str, Mapping[str, Any]], rename: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Join datalists, by the name of their data set, to one whose entries carry the label values of their own.

    Paths are absolute. ``rename``: organ as a data set calls it -> its name in the result; equal names are joined.
    """
    renamed = dict(rename or {})
    unused, organs = set(renamed), dict[str, None]()
    merged: dict[str, Any] = {TRAINING: [], VALIDATION: []}
    for cohort, content in datalists.items():
        for split in split_names(content):
            for entry in content[split]:
                if not has_image(entry):
                    raise ValueError(f"an entry of {cohort} has no 'image': {entry}; fix its datalist.")
                own = read_label_values(entry.get("labels", content.get("labels")), f"data set {cohort}")
                unused -= set(own.organs)
                labels = _renamed(own, renamed)
                organs.update(dict.fromkeys(name for name in labels.values() if name != BACKGROUND))
                merged.setdefault(SPELLINGS.get(split, split), []).append(
                    _entry(entry, cohort, labels, list(own.organs), renamed)
                )
    if unused:
        raise ValueError(f"--rename names {', '.join(sorted(unused))}, which no data set has; fix the spelling.")
    spelt: dict[str, str] = {}
    for organ in organs:
        if (first := spelt.setdefault(plain_name(organ), organ)) != organ:
            raise ValueError(f"'{first}' and '{organ}' look like one organ: join them with --rename '{organ}={first}'.")
    return {"name": " + ".join(datalists), "labels": labels_of(list(organs)), "modality": {"0": "CT"}, **merged}


def _renamed(own: LabelValues, renamed: Mapping[str, str]) -> dict[str, str]:
    """The map of values with the new names; values of background stay declared."""
    values: dict[str, list[int]] = {}
    for organ, its_own in own.organs.items():
        values.setdefault(renamed.get(organ, organ), []).extend(values_of(its_own))
    background = set(own.known).difference(*values.values())
    labels = {str(value): BACKGROUND for value in sorted(background)}
    return labels | {",".join(map(str, sorted(joined))): organ for organ, joined in values.items()}


def _entry(
    entry: Mapping[str, Any], cohort: str, labels: Mapping[str, str], own: Sequence[str], renamed: Mapping[str, str]
) -> dict[str, Any]:
    joined = {**entry, "case": f"{cohort}_{entry.get('case') or case_name(entry['image'])}", "labels": labels}
    if entry.get("patient"):
        joined["patient"] = f"{cohort}_{entry['patient']}"
    if entry.get("label"):
        contoured = entry["annotated"] if entry.get("annotated") is not None else own
        partly = {renamed.get(organ, organ) for organ in own if organ not in contoured}
        joined["annotated"] = [organ for organ in labels.values() if organ not in {BACKGROUND, *partly}]
    return joined


def prepare_merged(options: argparse.Namespace) -> list[Path]:
    """Merge the data sets of the command line and return the folder of the datalist."""
    pairs = [argument.partition("=") for argument in options.rename]
    if not all(old and new for old, _, new in pairs):
        given = " ".join(options.rename)
        raise ValueError(f"--rename takes OLD=NEW, such as 'Right kidney=right_kidney'; got {given}.")
    folders = [Path(os.path.abspath(os.path.expanduser(folder))) for folder in options.datasets]
    names = options.names or [folder.name for folder in folders]
    if len(names) != len(folders) or len(set(names)) < len(names):
        raise ValueError(f"{len(folders)} data sets need as many different names, got {names}; give them with --names.")
    datalists = [folder / DATALIST for folder in folders]
    content = merge_datalists(
        {name: read_absolute(str(path)) for name, path in zip(names, datalists, strict=True)},
        {old: new for old, _, new in pairs},
    )
    known = [organ for organ in content["labels"].values() if organ != BACKGROUND]
    return write_cohort(options.output_dir, [content], options.organs or known, datalists)


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge the data sets that the arguments name; return the exit status."""
    parser = command_parser("scripts.prepare.merge", __doc__)
    parser.add_argument("datasets", nargs="+", help="folders with a dataset.json")
    parser.add_argument("--names", nargs="+", help="of the data sets (default: their folders')")
    parser.add_argument("--rename", nargs="+", default=[], metavar="OLD=NEW", help="organs that are called differently")
    parser.add_argument("--organs", nargs="+", default=[], help="organs to segment (default: all)")
    parser.add_argument("--output_dir", default="data/merged", help="folder to write to (default: %(default)s)")
    add_training_options(parser)
    options = parser.parse_args(arguments)
    return train_or_tell(prepare_merged(options), options)


if __name__ == "__main__":
    sys.exit(main())
