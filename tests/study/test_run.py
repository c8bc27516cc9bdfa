"""The command `run` on a tiny data set: every kind of arm, what is stored, and that nothing is done twice."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from tiny_study import write_plan

from development.phantom.dataset import write_phantom_dataset
from development.study import embed_command, report_command, run_command
from development.study.results import SCORES, Results
from development.study.single_run import first_error, share_coarse_stage
from scripts.evaluation.summary import read_scores


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a tiny study."""
    folder = tmp_path_factory.mktemp("study")
    write_phantom_dataset(str(folder / "data"), 4, 1, 0, in_plane_spacing=(9, 10), slice_spacing=(10, 12))
    places = {"dataset_dir": "data", "output_dir": "runs", "results_dir": "results"}
    words = [word for name, value in places.items() for word in (f"--{name}", str(folder / value))]
    return [*words, "--plan", str(write_plan(folder))]


def folder_of(options: list[str], name: str) -> Path:
    return Path(options[options.index(f"--{name}") + 1])


def record(options: list[str], run: str) -> dict[str, object]:
    return Results(folder_of(options, "results_dir")).records[run]


def test_a_dry_run_prints_plan_and_commands_and_writes_nothing(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command.main([*options, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "4 labelled training patients" in printed and "5 runs, 0 done" in printed
    assert "monai.bundle run training" in printed and "baselines/coarse_and_slice.yaml" in printed
    assert not folder_of(options, "output_dir").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--arms", "slices"], "--arms slices: the study has coarse_stage, slice"),
        (["--labelled", "5"], "4 training cases have a label; give 1 to 4"),
        (["--seed", "7"], "--seed is set for each run: give --seeds"),
        (["--labelled_fraction", "0.5"], "give --labelled"),
        (["--network_def::coarse_wieght", "0.5"], "['network_def::coarse_wieght'] do not exist"),
        (["--train::epoch", "5"], r"the settings ['train::epoch'] do not exist"),
        (["--seeds", "0", "lonely"], "invalid int value"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(
    more: list[str], message: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((ValueError, SystemExit)) as caught:
        run_command.main([*options, *more])
    assert message in str(caught.value) + capsys.readouterr().err
    assert not folder_of(options, "output_dir").exists()


def test_a_report_against_an_unknown_arm_is_refused(options: list[str]) -> None:
    with pytest.raises(FileNotFoundError, match="no results in nowhere"):
        report_command.main(["--results_dir", "docs/results/study", "--costs_dir", "nowhere"])
    with pytest.raises(ValueError, match="--references slices: the study has coarse_stage, slice"):
        report_command.main([*options[-2:], "--references", "slices"])


@pytest.mark.slow
def test_a_run_that_fails_is_reported_and_those_that_need_it_are_left_out(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    here = ["--output_dir", str(tmp_path / "runs"), "--results_dir", str(tmp_path / "results"), *options[-2:]]
    with caplog.at_level("INFO"):
        assert run_command.main([*options[:2], *here, "--arms", "supcon", "--precision", "none"]) == 1
    assert "0 of 2 runs done, 2 failed." in capsys.readouterr().out
    assert "training in" in caplog.text and "left out, since what it needs failed: same/4/supcon/seed0" in caplog.text


def test_a_coarse_stage_is_handed_on_without_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "coarse_stage"
    (source / "coarse_maps").mkdir(parents=True)
    for name in (
        "coarse.pt",
        "coarse_fold0.pt",
        "coarse_recall.json",
        "coarse_maps/a.npy",
        "model.pt",
        "config.yaml",
        "run_manifest.json",
    ):
        (source / name).write_text(name, encoding="utf-8")
    for _ in range(2):
        share_coarse_stage(source, tmp_path / "arm")
    found = {str(path.relative_to(tmp_path / "arm")) for path in (tmp_path / "arm").rglob("*") if path.is_file()}
    assert found == {"coarse.pt", "coarse_fold0.pt", "coarse_recall.json", "coarse_maps/a.npy"}


def test_of_a_failed_command_the_first_error_is_shown_and_not_those_that_were_raised_from_it() -> None:
    try:
        try:
            raise ValueError("no query is left")
        except ValueError as error:
            raise RuntimeError("Failed to evaluate") from error
    except RuntimeError:
        printed = "epoch 1\n" + traceback.format_exc()
    assert first_error(printed).splitlines()[-1].strip() == "ValueError: no query is left"
    assert first_error("epoch 1\nerror: no scan in data\n") == "    epoch 1\n    error: no scan in data"


@pytest.mark.slow
def test_a_study_from_its_plan_to_its_report(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command.main(options) == 0
    runs, results = folder_of(options, "output_dir"), folder_of(options, "results_dir")
    supcon, shared = record(options, "same/4/supcon/seed0"), record(options, "same/4/coarse_stage/seed0")
    stages = supcon["stages"]
    assert isinstance(stages, dict)
    assert set(stages) == {"coarse_fold0", "coarse_fold1", "coarse", "contrastive", "segmentation"}
    assert isinstance(shared["stages"], dict) and shared["stages"].items() <= stages.items()
    assert supcon["training_core_seconds"] == pytest.approx(
        sum(one["core_seconds"] for one in stages.values()), abs=0.1
    )
    assert isinstance(shared["coarse_recall"], dict) and "liver" in shared["coarse_recall"]
    mean = record(options, "same/4/mean/seed0")["stages"]
    assert isinstance(mean, dict) and set(mean) == {"coarse_fold0", "coarse_fold1", "coarse", "segmentation"}
    again = record(options, "same/4/supcon_mean/seed0")
    assert again["stages"] == stages and not (runs / "same/4/supcon_mean/seed0/model.pt").exists()
    assert again["configs"] == supcon["configs"], "the weights of another arm are scored with that arm's files"
    for run in ("same/4/supcon", "same/4/supcon_mean", "same/4/coarse_stage", "same/4/mean", "any/4/slice"):
        assert set(read_scores(f"{results / SCORES}::{run}/seed0")["case"])
    assert not list(runs.rglob("segmentation.pt")), "a finished run keeps no optimizer"
    assert {path.parents[1].name for path in runs.rglob("coarse_maps")} == {"coarse_stage"}, "maps that arms begin with"

    before = {path: path.read_bytes() for path in results.iterdir()}
    capsys.readouterr()
    assert run_command.main(options) == 0
    assert before == {path: path.read_bytes() for path in results.iterdir()} and len(before) == 2
    assert "5 of 5 runs done, 0 failed." in capsys.readouterr().out
    changed = r"of same/4/coarse_stage/seed0 with other settings:\n  contrastive::epochs: was None, now 2"
    with pytest.raises(ValueError, match=changed):
        run_command.main([*options, "--contrastive::epochs", "2"])

    plan, stored = options[-2:], ["--results_dir", str(results)]
    assert report_command.main([*stored, *plan]) == 0
    printed = capsys.readouterr().out
    assert "Against **slice baseline**" in printed and "Core-seconds are those of training, as each run" in printed
    assert report_command.main([*stored, *plan, "--references", "supcon", "--costs_dir", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "Against **supcon**" in printed and "computed from what an epoch of each stage took" in printed
    data = ["--dataset_dir", options[1], "--cache_dir", str(runs / "cache"), "--queries", "24"]
    picture = results / "map.png"
    model = ["--model_path", str(runs / "same/4/supcon/seed0")]
    assert embed_command.main([*model, *data, *plan, "--output", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and "silhouette" in capsys.readouterr().out
