"""Each benchmark runs in its quick mode and prints its ratios; how large they are is no test's business."""

from __future__ import annotations

import re

import pytest

from benchmarks import inference, precision, sampling
from benchmarks.timing import interleaved_medians, peak_memory, verdict


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
def test_inference_of_a_whole_scan_prints_its_peak_memory(capsys: pytest.CaptureFixture[str]) -> None:
    inference.main(["--quick", "--full"])
    assert printed(capsys, "peak memory ") > 0


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
