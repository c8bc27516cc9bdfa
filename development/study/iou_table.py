"""IoU of several runs side by side, each an `iou.csv` that an evaluation left behind; seeds of one name are averaged.

python -m development.study.iou_table slice/iou.csv final/iou.csv --names slice final
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import pandas as pd

from scripts.evaluation.pixel_scores import COLUMNS, with_means
from scripts.evaluation.score_tables import markdown_table, read_runs
from scripts.runtime.plain_errors import install_plain_errors


def iou_table(runs: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Markdown: a row for each class, a column for each name; several runs of a name give their mean and range."""
    columns = {name: pd.concat([with_means(frame) for frame in frames], axis=1) for name, frames in runs.items()}
    rows = next(iter(columns.values())).index
    body = [[str(row), *(_cell(of_name.loc[row]) for of_name in columns.values())] for row in rows]
    return markdown_table(["class", *columns], body)


def _cell(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "-"
    mean = f"{known.mean():.3f}"
    return mean if len(known) == 1 else f"{mean} ({known.min():.3f}-{known.max():.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study.iou_table", description="Print the IoU of several runs side by side."
    )
    parser.add_argument("files", nargs="+", help="iou.csv of each run, or FILE::RUN")
    parser.add_argument("--names", nargs="+", required=True, help="a name for each file; one name for seeds of a run")
    given = parser.parse_args(arguments)
    if len(given.names) != len(given.files):
        parser.error(f"{len(given.files)} files and {len(given.names)} names; give a name for each file.")
    runs: dict[str, list[pd.DataFrame]] = {}
    for name, file in zip(given.names, given.files, strict=True):
        runs.setdefault(name, []).append(read_runs(file, COLUMNS))
    print(iou_table(runs))
    return 0


if __name__ == "__main__":
    install_plain_errors()
    raise SystemExit(main())
