"""IoU over all pixels of a set, against a transcription of the devkit and by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine

from development.study.iou_table import COUNTS, arms_table, iou_table, main, pixel_counts
from scripts.evaluation.pixel_scores import COLUMNS, PixelScoreHandler, class_ious, iou_frame, mean_iou_metric
from scripts.evaluation.score_tables import read_runs

NAMES = ["background", "disc", "square"]


def image(*rows: str) -> torch.Tensor:
    """A label map [1, x, y, 1] from digits; x is an unknown pixel."""
    values = [[255 if value == "x" else int(value) for value in row] for row in rows]
    return torch.tensor(values, dtype=torch.uint8).T[None, :, :, None]


def spaced_once(table: str) -> str:
    """A table without the spaces that line its columns up."""
    return re.sub(" +", " ", table)


def voc_evalseg(pairs: list[tuple[torch.Tensor, torch.Tensor]], num: int) -> list[float]:
    """VOCevalseg.m line by line; pairs of result and truth."""
    confcounts = np.zeros((num, num))
    for resim, gtim in pairs:
        res, gt = resim.numpy().ravel().astype(int), gtim.numpy().ravel().astype(int)
        locs = gt < 255
        sumim = 1 + gt + res * num
        hs = np.array([np.count_nonzero(sumim[locs] == n) for n in range(1, num * num + 1)])
        # Counts run down the columns of confcounts, as MATLAB counts: a row is the truth, a column the result.
        confcounts += hs.reshape(num, num).T
    accuracies = []
    for j in range(num):
        gtj, resj, gtjresj = confcounts[j, :].sum(), confcounts[:, j].sum(), confcounts[j, j]
        total = gtj + resj - gtjresj
        accuracies.append(gtjresj / total if total else math.nan)
    return accuracies


def run_engine(pairs: list[tuple[torch.Tensor, torch.Tensor]], attach: Any) -> Engine:
    """An evaluator that answers with one pair in each iteration; None for an image that failed."""
    outputs: list[Any] = [[{"pred": pred, "label": label}] for pred, label in pairs]
    engine = Engine(lambda _, item: outputs[item])
    attach(engine)
    engine.run(range(len(outputs)))
    return engine


def test_an_example_by_hand() -> None:
    ious = class_ious(torch.tensor([[3, 1], [0, 4]]))
    assert ious.tolist() == [0.75, 0.8]


@given(st.integers(0, 10_000))
def test_the_validation_metric_is_the_devkits(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for width in (3, 5):  # photographs differ in size
        pred = torch.randint(3, (1, width, 4, 1), generator=generator)
        label = torch.randint(4, (1, width, 4, 1), generator=generator)
        pairs.append((pred, torch.where(label == 3, 255, label)))
    engine = run_engine(pairs, lambda engine: mean_iou_metric(3).attach(engine, "mean_iou"))
    assert engine.state.metrics["mean_iou"] == pytest.approx(np.nanmean(voc_evalseg(pairs, 3)))


def test_it_is_not_the_mean_over_images() -> None:
    # One pixel of a disc found, three missed in another image: 1 / 4, and not (1 + 0) / 2.
    pairs = [(image("10"), image("10")), (image("0000"), image("0111"))]
    engine = run_engine(pairs, lambda engine: mean_iou_metric(2).attach(engine, "mean_iou"))
    assert engine.state.metrics["mean_iou"] == pytest.approx((0.4 + 0.25) / 2)


def evaluate(
    folder: Path, pairs: list[tuple[torch.Tensor, torch.Tensor]], failures: Sequence[str] = ()
) -> pd.DataFrame:
    """Score photographs "0", "1", ... and read the report."""
    handler = PixelScoreHandler([{"case": str(n)} for n in range(len(pairs))], NAMES[1:], str(folder), "any")
    for n, (pred, label) in enumerate(pairs):
        if str(n) not in failures:
            handler({"case": str(n), "pred": pred, "label": label})
    engine: Any = Engine(lambda _engine, _item: None)
    engine.is_last, engine.failures = True, failures
    handler.attach(engine)
    engine.run([0])
    return read_runs(folder / "iou.csv", COLUMNS)


def test_unknown_pixels_count_for_nobody(tmp_path: Path) -> None:
    frame = evaluate(tmp_path, [(image("1122", "1122"), image("11xx", "1122"))])
    assert frame["reference_pixels"].tolist() == [0, 4, 2] and frame["predicted_pixels"].tolist() == [0, 4, 2]
    assert frame["iou"].tolist()[1:] == [1.0, 1.0]


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_iou_and_one_that_is_predicted_has_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = evaluate(tmp_path, [(image("1111"), image("1100"))])
    assert frame["iou"].tolist()[:2] == [0.0, 0.5] and math.isnan(frame["iou"][2])
    table = spaced_once(capsys.readouterr().out)
    assert "| square | - |" in table and "| mean | 0.250 |" in table and "| mean without background | 0.500 |" in table


def test_the_counts_of_all_images_are_summed(tmp_path: Path) -> None:
    # 1 / 4, and not the mean of 1 and 0.
    frame = evaluate(tmp_path, [(image("10"), image("10")), (image("0000"), image("0111"))])
    assert frame["iou"].tolist()[:2] == [pytest.approx(2 / 5), pytest.approx(1 / 4)]


def test_an_image_that_failed_is_left_out(tmp_path: Path) -> None:
    frame = evaluate(tmp_path, [(image("12"), image("12")), (image("12"), image("12"))], failures=["0"])
    assert frame["common_pixels"].tolist() == [0, 1, 1]


def test_a_second_run_begins_at_zero(tmp_path: Path) -> None:
    for _ in range(2):
        frame = evaluate(tmp_path, [(image("12"), image("12"))])
    assert frame["reference_pixels"].tolist() == [0, 1, 1]


def test_seeds_of_a_run_become_their_mean_and_range() -> None:
    one, two = (iou_frame(torch.tensor([[5, 0], [n, 5 - n]]), NAMES[:2]) for n in (0, 1))
    table = spaced_once(iou_table({"slice": [one, two], "final": [one]}))
    assert table.splitlines()[0] == "| class | slice | final |"
    assert "| disc | 0.900 (0.800-1.000) | 1.000 |" in table


def test_the_table_of_several_files_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        iou_frame(torch.eye(3), NAMES).to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert main([*files, "--names", "slice", "final"]) == 0
    assert "| mean | 1.000 | 1.000 |" in spaced_once(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main([*files, "--names", "slice"])
    assert "give a name for each file" in capsys.readouterr().err


def test_a_study_keeps_the_counts_of_each_photograph_and_prints_its_arms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = [image("0011"), image("0022")]
    answers = {"slice": [image("0001"), image("0000")], "supcon": truth}
    frames = []
    for arm, predicted in answers.items():
        evaluate(tmp_path / arm, list(zip(predicted, truth, strict=True)))
        frames.append(pixel_counts(tmp_path / arm, 60.0).assign(run=f"half/2/{arm}/seed0"))
    counts = pd.concat(frames)
    assert counts.iloc[:3][list(COUNTS)].to_numpy().tolist() == [
        ["0", 0, 0, 2, 60.0],
        ["0", 1, 0, 1, 60.0],
        ["0", 1, 1, 1, 60.0],
    ]
    counts.to_csv(tmp_path / "scores.csv.xz", index=False)
    capsys.readouterr()
    assert main([str(tmp_path / "scores.csv.xz")]) == 0
    _, _, slice_row, supcon = spaced_once(capsys.readouterr().out).splitlines()
    # Background 4 / 7, disc 1 / 2, square 0 / 2.
    assert slice_row.startswith("| slice | 1 | 60 | 0.357 | 0.250 | ")
    # In a photograph alone: 33.3 with the first (2 / 3 and 1 / 2 of two classes), 75 with the second (1 / 2 and 0).
    assert supcon.startswith("| supcon | 1 | 60 | 1.000 | 1.000 | +64.3 (+41.7 to +75.0) |")


def test_the_difference_of_arms_is_that_of_their_means_over_seeds() -> None:
    rows = [
        ("half/1/slice/seed0", "a", 1, 1, 3, 1.0), ("half/1/slice/seed0", "a", 1, 0, 1, 1.0),
        ("half/1/slice/seed1", "a", 1, 1, 1, 3.0), ("half/1/slice/seed1", "a", 1, 0, 3, 3.0),
        ("half/1/attention_only/seed0", "a", 1, 1, 4, 2.0),
    ]  # fmt: skip
    counts = pd.DataFrame(rows, columns=["run", *COUNTS]).assign(seed=lambda frame: frame["run"].str[-1])
    table = spaced_once(arms_table(counts))
    assert "| slice | 2 | 2 | 0.250 (0.125-0.375) | 0.500 (0.250-0.750) | |" in table
    # The background is predicted by slice alone, wrongly, and has no IoU in the other arm.
    assert "| attention_only | 1 | 2 | 1.000 | 1.000 | +75.0 (+75.0 to +75.0) | |" in table


def test_runs_of_an_arm_with_other_numbers_of_labels_are_not_joined() -> None:
    rows = [(f"half/{labelled}/supcon/seed0", "a", 1, 1, 3, 1.0) for labelled in (41, 10)]
    counts = pd.DataFrame(rows, columns=["run", *COUNTS]).assign(seed=0)
    with pytest.raises(ValueError, match="runs of supcon are of half/41 and half/10, regimes or numbers of labels"):
        arms_table(counts)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"class": ["disc"]}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ValueError, match="lacks the columns"):
        read_runs(tmp_path / "other.csv", COLUMNS)
    assert COLUMNS[:3] == ("class", "class_index", "iou")
