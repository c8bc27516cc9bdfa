"""Tables of scores as files: of one run, as an evaluation writes them, or of several, named in a column `run`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def read_runs(path: str | os.PathLike[str], columns: Sequence[str], **options: Any) -> pd.DataFrame:
    """Read a table of scores, of one run or of several named in `run`; ValueError if it lacks a column or the run.

    The path is a CSV file, compressed or not; FILE::RUN reads the rows whose run is RUN, or begins with RUN/ (its
    seeds). Options: those of `pandas.read_csv`. Rows of several runs get a column `seed`: K of a run ...seedK, else 0.
    """
    file, _, name = os.fspath(path).partition("::")
    frame: pd.DataFrame = pd.read_csv(file, encoding_errors="surrogateescape", **options)
    if missing := [column for column in columns if column not in frame.columns]:
        raise ValueError(f"{file} lacks the columns {missing}; give a scores.csv or iou.csv that an evaluation wrote.")
    if "run" not in frame:
        if name:
            raise ValueError(f"{file} is of one run, it has no '{name}': leave out ::{name}.")
        return frame
    runs = frame["run"].astype("str")
    seeds = runs.str.extract(r"seed(\d+)$", expand=False).fillna("0").astype(int)
    chosen = frame.assign(seed=seeds)[(runs == name) | runs.str.startswith(f"{name}/" if name else "")]
    if chosen.empty:
        raise ValueError(f"{file} has no run '{name}': expected one of {', '.join(runs.unique()[:20])}.")
    return chosen.reset_index(drop=True)


def run_name(path: str) -> str:
    """The run of FILE::RUN, else the folder of the file."""
    return path.partition("::")[2] or Path(path).resolve().parent.name


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table, which reads well as plain text too; all columns but the first are right-aligned."""
    columns = list(zip(header, *body, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    rule = ["-" * (width + 1) + ":" if number else ":" + "-" * (width + 1) for number, width in enumerate(widths)]
    aligned = [
        [cell.rjust(width) if number else cell.ljust(width) for cell in column]
        for number, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    first, *rows = (f"| {' | '.join(row)} |" for row in zip(*aligned, strict=True))
    return "\n".join([first, f"|{'|'.join(rule)}|", *rows])
