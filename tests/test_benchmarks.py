"""Each benchmark runs in its quick mode and prints its ratios; how large they are is no test's business."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import pytest
import torch
from PIL import Image

from development.benchmarks import (
    beside_others,
    growth,
    inference,
    one_scan,
    precision,
    sampling,
    training_step,
    two_commits,
    two_processes,
)
from development.benchmarks.candidates import CANDIDATES, Settings
from development.benchmarks.one_scan import measured
from development.benchmarks.phantom_volume import write_fitted_scan, write_phantom_scan
from development.benchmarks.public_design import PairedViews, looped_weights, weighted_contrast, write_pairs
from development.benchmarks.timing import Stopwatch, interleaved_medians, peak_memory, verdict
from scripts.losses.supcon import SupConLoss


def printed(capsys: pytest.CaptureFixture[str], pattern: str) -> float:
    """The positive number that the benchmark printed after a text."""
    text = capsys.readouterr().out
    found = re.search(pattern + r"\D*?([\d.]+)", text)
    assert found is not None, text
    return float(found[1].rstrip("."))


def test_sampling_prints_how_much_faster_batches_are_than_chain_and_encoder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sampling.main(["--quick"])
    line = capsys.readouterr().out.splitlines()[-1]
    for other in ("chain", "lean chain", "encoder"):
        found = re.search(rf"batches / {other} ([\d.]+)", line)
        assert found is not None and float(found[1]) > 0, line


def test_precision_prints_the_ratio_and_what_auto_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    precision.main(["--quick"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"time bfloat16 / float32, .*: [\d.]+; auto chooses (float32|bfloat16) channels-last here", last
    )


@pytest.mark.slow
def test_inference_prints_the_growth_of_the_time_per_slice(capsys: pytest.CaptureFixture[str]) -> None:
    inference.main(["--quick"])
    assert printed(capsys, "time per slice, largest / smallest volume: ") > 0


@pytest.mark.slow
@pytest.mark.parametrize("task", ["coarse", "store"])
def test_a_commit_beside_itself_gives_the_same_and_a_ratio(capsys: pytest.CaptureFixture[str], task: str) -> None:
    checkout = str(Path(__file__).resolve().parents[1])
    two_commits.main([task, checkout, "--repeats", "2", "--cases", "1"])
    first, last = capsys.readouterr().out.splitlines()
    before, now = first.split("last results ")[1].split(", ")
    assert before == now and (float(now) > 0) == (task == "coarse")
    assert re.fullmatch(r"before / now: [\d.]+ \(goal .*\)", last)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 20 x 20 x 12 voxels of 16 x 16 x 9 mm."""
    path = tmp_path_factory.mktemp("scan") / "scan.nii"
    write_phantom_scan(path, [20, 20, 12], [16.0, 16.0, 9.0])
    return path


def test_every_step_of_a_scan_has_its_time_and_a_floor(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.dumps({"quick": True, "precision": "float32", "organs": 3})
    one_scan.main([str(scan), "two-stage", "--floors", "--threads", "1", "--settings", settings])
    _, header, *rows, total = capsys.readouterr().out.splitlines()
    assert len(rows) == 7 and header.split()[0] == "step" and total.endswith("36 queries")
    assert all(float(number) >= 0 for row in rows for number in row[26:].split())


@pytest.mark.slow
def test_a_cohort_twice_as_large_has_every_step_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = []
    for cases in (4, 8):
        (folder := tmp_path / str(cases)).mkdir()
        growth.write_cohort(folder, cases)
        columns.append({**growth.steps_of(folder, cases), "start": 9.0, "start, GiB": 1.0})
    capsys.readouterr()
    growth.print_table([4, 8], columns)
    text = capsys.readouterr().out
    assert "start: 9 CPU s (goal <= 60: met)" in text and len(text.splitlines()) == 4 + len(columns[0])
    assert all(value > 0 for column in columns for value in column.values())


@pytest.mark.slow
def test_two_processes_write_the_label_maps_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        write_phantom_scan(tmp_path / f"scan{number}.nii", [24, 24, 12], [16.0, 16.0, 9.0])
    two_processes.main(["--dataset_dir", str(tmp_path), "--run_dir", "development/synthetic_abdomen"])
    text = capsys.readouterr().out
    assert "same label maps: yes" in text and text.count(": 2 scans") == 2
    assert re.search(r"one / two processes: [\d.]+ \(goal >= 1.8", text)


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_returns_labels_on_the_grid_of_the_scan_and_says_what_it_took(name: str, scan: Path) -> None:
    if name == "nnU-Net":
        pytest.importorskip("nnunetv2", reason="needs nnunetv2")
    found = measured(name, Settings(precision="float32", quick=True, organs=3), scan)  # refuses any other grid
    # Every organ in every slice is asked; 36 x 36 x 9 voxels at 9 x 9 x 12 mm fit into one window of 64.
    assert (found["asked"], found["unit"]) == ((3 * 12, "queries") if name == "two-stage" else (1, "windows"))
    assert found["total"] == pytest.approx(found["read"] + found["network"] + found["back"])
    assert min(found["read"], found["network"], found["back"], found["cpu"]) > 0
    assert 0 < found["before"] <= found["peak"]


@pytest.mark.slow
def test_beside_others_prints_ratios_and_the_memory_over_the_organs(capsys: pytest.CaptureFixture[str]) -> None:
    beside_others.main(["--quick", "--candidates", "two-stage", "SegResNet", "--organs", "2", "4"])
    text = capsys.readouterr().out
    for pattern in (r"SegResNet / two-stage: time ([\d.]+) \(goal", r"peak memory, 4 / 2 organs: ([\d.]+) \(goal"):
        found = re.search(pattern, text)
        assert found is not None and float(found[1]) > 0, text


def test_a_candidate_that_fails_is_left_out_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"read": 1.0, "network": 2.0, "back": 1.0, "total": 4.0, "cpu": 4.0, "asked": 9, "unit": "windows"}

    def run(name: str, *_: object) -> dict[str, object]:
        if name == "SwinUNETR":
            raise RuntimeError("SwinUNETR failed.")
        return {**answer, "total": 4.0 if name == "two-stage" else 10.0, "peak": 2**30, "before": 0}

    monkeypatch.setattr(beside_others, "run", run)
    beside_others.main(["--quick", "--repeats", "2"])
    text = capsys.readouterr().out
    assert text.count("SwinUNETR failed. It is left out.") == 1
    assert "SegResNet / two-stage: time 2.5 (goal >= 3: MISSED), peak memory 1.0" in text
    assert "SwinUNETR /" not in text


def test_a_real_scan_is_made_to_fit(scan: Path, tmp_path: Path) -> None:
    write_fitted_scan(tmp_path / "fitted.nii", str(scan), [30, 10, 9], [8.0, 8.0, 18.0])
    fitted = nibabel.load(tmp_path / "fitted.nii")
    assert fitted.shape == (30, 10, 9) and nibabel.aff2axcodes(fitted.affine) == ("L", "P", "S")
    assert fitted.header.get_zooms() == (8.0, 8.0, 18.0)
    hu = fitted.get_fdata()
    assert hu[15, 5, 4] > -200 and hu[15, 5, 0] == -1000  # tissue in the middle, air beyond 12 slices of 9 mm


def test_a_training_step_beside_the_public_design_prints_its_parts_and_the_ratio(
    capsys: pytest.CaptureFixture[str],
) -> None:
    training_step.main(["--quick"])
    text = capsys.readouterr().out
    for part in ("load", "forward \\+ backward", "loss", "total"):
        assert re.search(rf"^{part} +[\d.]+ +[\d.]+ +[\d.]+$", text, re.M), text
    assert re.search(r"^public design / ours: [\d.]+ \(goal >= 10: (met|MISSED)\)$", text, re.M), text


def test_the_public_design_moves_image_and_prior_together(tmp_path: Path) -> None:
    square = torch.zeros(2, 128, 128)
    square[:, 40:80, 30:90] = 1.0
    write_pairs(tmp_path, square, square)
    assert Image.open(tmp_path / "prior" / "00001.png").size == (128, 128)
    (first, second), (first_prior, second_prior) = PairedViews(tmp_path)[1]
    assert first.shape == first_prior.shape == (3, 128, 128)
    torch.testing.assert_close((first + 1) / 2, first_prior)
    torch.testing.assert_close((second + 1) / 2, second_prior)
    assert not torch.equal(first, second)


def test_the_loop_over_pairs_of_views_gives_one_minus_the_difference_of_their_mean_intensities() -> None:
    products = torch.tensor([[0.0, 0.2, 0.4], [0.0, 0.0, 0.9], [0.0, 0.0, 0.0]])[:, :, None, None]
    expected = torch.tensor([[1.0, 0.4, 0.7], [0.4, 1.0, 0.1], [0.7, 0.1, 1.0]])
    torch.testing.assert_close(looped_weights(products), expected)


def test_the_public_loss_without_weights_is_the_one_of_simclr() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    expected = SupConLoss(temperature=0.3)(embeddings, torch.tensor([0, 1, 2, 0, 1, 2]))
    torch.testing.assert_close(weighted_contrast(embeddings, torch.ones(6, 6)), expected)


def test_a_stopwatch_adds_up_parts_of_one_name() -> None:
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.part("load"):
            sum(range(10**5))
    first = watch.wall["load"]
    with watch.part("load"):
        sum(range(10**5))
    assert watch.wall["load"] > first > 0 and watch.cpu["load"] > 0 and list(watch.wall) == ["load"]


def test_tasks_are_timed_in_turns_and_their_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    medians = interleaved_medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert set(medians) == {"a", "b"} and min(medians.values()) >= 0


def test_timing_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats 0 times nothing"):
        interleaved_medians({"a": lambda: None}, 0)


def test_the_peak_memory_counts_what_was_held_and_let_go() -> None:
    before, held = peak_memory(), bytearray(64 * 2**20)
    held[::4096] = b"1" * len(held[::4096])
    del held
    assert 0 < before <= peak_memory()


def test_a_verdict_says_goal_and_outcome() -> None:
    assert verdict(12.0, 10.0) == "goal >= 10: met"
    assert verdict(1.5, 1.25, smaller=True) == "goal <= 1.25: MISSED"
