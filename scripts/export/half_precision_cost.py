"""What half-precision weights cost: the same cases scored with both, and the difference of the Dice.

    python -m scripts.export.half_precision_cost --model_path runs/mine/model.pt --dataset_dir DATASET \
      --output_dir runs/mine/half_precision

Takes every option of `run evaluate`: ``--split``, ``--run_dir``, ids to override.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fire
import pandas as pd
from monai.bundle import run

from scripts.evaluation.intervals import CONFIDENCE, macro_interval, macro_mean
from scripts.evaluation.summary import format_table, read_scores, summarise
from scripts.export.half_precision import DEFAULT_DTYPE, write_half_precision
from scripts.plain_errors import install_plain_errors

EVALUATION = "configs/evaluate.yaml"


@dataclass(frozen=True)
class Cost:
    """How the Dice changes, case by case and organ by organ.

    Attributes:
        macro: change of the macro mean; negative where half precision is worse.
        interval: of `macro`, over patients; NaN for fewer than two.
        largest: the largest change of one organ in one case, without sign.
        where: organ and case of it.
        statuses: organs that are found in a case with one and not with the other.
    """

    macro: float
    interval: tuple[float, float]
    largest: float
    where: str
    statuses: int


def cost(before: pd.DataFrame, after: pd.DataFrame) -> Cost:
    """Compare the scores of two runs on the same cases.

    Raises:
        ValueError: the runs scored different cases or organs.
    """
    keys = ["case", "organ"]
    both = before.merge(after, on=keys, how="outer", suffixes=("_before", "_after"), indicator=True)
    if not bool((both["_merge"] == "both").all()):
        raise ValueError("the two runs scored different cases or organs: give both the same data and config files.")
    # An organ that is in neither label map has no Dice; where only one run predicts it, that run's Dice is 0.
    absent = both["dice_before"].isna() & both["dice_after"].isna()
    both["change"] = (both["dice_after"].fillna(1.0) - both["dice_before"].fillna(1.0)).mask(absent)
    by_patient = both.pivot(index="case", columns="organ", values="change").to_numpy(dtype=float)
    worst = both.iloc[int(both["change"].abs().argmax())]
    return Cost(
        macro=float(macro_mean(by_patient)),
        interval=macro_interval(by_patient),
        largest=abs(float(worst["change"])),
        where=f"{worst['organ']} of {worst['case']}",
        statuses=int((both["status_before"] != both["status_after"]).sum()),
    )


def measure(
    model_path: str,
    output_dir: str,
    dtype: str = DEFAULT_DTYPE,
    config_file: str | Sequence[str] = EVALUATION,
    **overrides: Any,
) -> None:
    """Evaluate weights and their half-precision form on the same cases, and print the tables and the difference.

    Args:
        model_path: weights of the whole predictor.
        output_dir: gets model_<dtype>.pt, and a folder with the report of each evaluation.
        dtype: float16 or bfloat16.
        config_file: as for `run evaluate`.
        overrides: as for `run evaluate`, such as dataset_dir and split.
    """
    folder = Path(output_dir)
    half = folder / f"model_{dtype}.pt"
    write_half_precision(model_path, half, dtype)
    files = [config_file] if isinstance(config_file, str) else list(config_file)
    for name, weights in (("original", model_path), (dtype, str(half))):
        report = str(folder / name)
        run("evaluate", config_file=files, model_path=weights, output_dir=report, method=name, **overrides)
    before, after = (read_scores(folder / name / "scores.csv") for name in ("original", dtype))
    print(format_table({"original": summarise(before), dtype: summarise(after)}))
    found = cost(before, after)
    low, high = found.interval
    print(f"macro mean Dice: {found.macro:+.5f} with {dtype} weights ({CONFIDENCE:.0%} {low:+.5f} to {high:+.5f})")
    print(f"largest change: {found.largest:.5f} ({found.where}); found by one and not by the other: {found.statuses}")


if __name__ == "__main__":
    install_plain_errors()
    fire.Fire(measure)
