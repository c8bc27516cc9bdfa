"""The command line of a workflow: unknown ids, misplaced overlays, and the run that it names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from config_compositions import CONFIGS, OVERLAYS, ROOT, commands, load
from monai.bundle import run as bundle_run
from tiny_workflows import ABDOMEN, EVALUATE, TRAIN, workflow

from development.study.embedding import main as probe
from development.study.quality import main as quality
from development.study.quality import measured
from scripts.coarse.doubts import UNSURE
from scripts.dataset.datalists import load_cases
from scripts.dataset_report.doubts import main as doubts
from scripts.dataset_report.doubts import maps_by_split
from scripts.runtime.composition import PREDICTOR, check_ids, check_order, composed, trained_config
from scripts.runtime.run_folder import claim
from scripts.runtime.running_config import bundle_command

COARSE_ONLY, SLICE = "configs/baselines/coarse_only.yaml", "configs/baselines/slice.yaml"


def complaint(run_id: str, *files: str, **overrides: Any) -> str:
    with pytest.raises(Exception) as caught:
        bundle_run(run_id, config_file=[str(ROOT / name) for name in files], bundle_root=str(ROOT), **overrides)
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("dataset_dri", "--dataset_dri is no id of the config files, did you mean --dataset_dir?"),
        ("train::epoch", "--train::epoch is no id of the config files, did you mean --train::epochs?"),
        ("train#epoch", "--train#epoch is no id of the config files, did you mean --train::epochs?"),
        ("encoder::nme", "did you mean --encoder::name?"),
        ("contrastive::network::head::hiddn", "did you mean --contrastive::network::head::hidden?"),
    ],
)
def test_an_unknown_id_is_refused_with_the_nearest_known_one(given: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_ids(composed(str(ROOT / TRAIN)), {given: 1})
    assert said in str(caught.value)


@pytest.mark.parametrize(("value", "meant"), [("false", "False"), ("null", "None")])
def test_a_word_that_would_count_as_true_is_refused(value: str, meant: str) -> None:
    # `--multi_class false` trained with the setting on: MONAI reads Python's words alone, and a text is true.
    said = complaint("training", TRAIN, multi_class=value)
    assert said == f"--multi_class {value} is a text here, and no text is false: write --multi_class {meant}."


def test_a_home_folder_that_the_shell_left_as_it_is_is_refused() -> None:
    # A folder that is called ~ was written, in the current one.
    assert complaint("training", TRAIN, output_dir="~/x").startswith(
        "--output_dir ~/x: the ~ is not taken for the home"
    )


@pytest.mark.parametrize(
    "given", ["train#trainer#max_epochs", "contrastive::network::head::hidden", "_meta_::version", "decoder::width"]
)
def test_ids_of_clients_and_arguments_that_no_config_states_are_known(given: str) -> None:
    check_ids(composed(str(ROOT / TRAIN)), {given: 1})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((TRAIN, "configs/data/voc.yaml", "configs/data/voc.yaml"), "names configs/data/voc.yaml twice"),
        (
            (TRAIN, "configs/baselines/slice.yaml", "configs/data/btcv.yaml"),
            "names configs/data/btcv.yaml after configs/baselines/slice.yaml, whose values it would replace: give "
            "\"['configs/train.yaml','configs/data/btcv.yaml','configs/baselines/slice.yaml']\" instead of "
            "\"['configs/train.yaml','configs/baselines/slice.yaml','configs/data/btcv.yaml']\"",
        ),
        (("configs/inference.yaml", TRAIN), "names configs/train.yaml after configs/inference.yaml: each is complete"),
    ],
)
def test_overlays_given_twice_or_in_another_order_are_refused(files: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_order(files)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_before_its_base_or_without_one_is_refused_with_the_right_order(name: str) -> None:
    command = commands(name)[0]
    overlay, base = str(ROOT / name), str(ROOT / command.files[0])
    said = complaint(command.run_id, name, command.files[0])
    assert f"names {base} after {overlay}" in said and f"['{base}','{overlay}']\" instead of" in said
    said = complaint(command.run_id, name)
    assert f"no base config, and {overlay} overrides one: give \"['{command.files[0]}','{overlay}']\"" in said


def test_an_own_overlay_and_the_config_of_a_run_are_put_in_order(tmp_path: Path, trained: Path) -> None:
    own, kept = str(tmp_path / "cohort.yaml"), str(trained / "config.yaml")
    Path(own).write_text("organs: [liver]\n", encoding="utf-8")
    check_order([kept, COARSE_ONLY, own])
    for given in ([own, TRAIN], [COARSE_ONLY, kept]):
        with pytest.raises(ValueError) as caught:
            check_order(given)
        assert f"give \"['{given[1]}','{given[0]}']\" instead of" in str(caught.value)


def test_an_overlay_fits_the_config_of_a_run_of_an_older_version(tmp_path: Path) -> None:
    old = {key: value for key, value in load(EVALUATE).items() if key != "initialize"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old), encoding="utf-8")
    said = complaint("evaluate", str(tmp_path / "config.yaml"), COARSE_ONLY, dataset_dir=str(tmp_path))
    assert "dataset.json" in said, "the work began"


@pytest.mark.slow
@pytest.mark.parametrize("files", [(SLICE, TRAIN), (SLICE,)], ids=["before", "alone"])
def test_the_real_command_ends_in_a_sentence(files: tuple[str, ...]) -> None:
    command = [sys.executable, *bundle_command("training", files, dataset_dir="nowhere")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: --config_file names ")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_of_every_header_is_accepted(name: str) -> None:
    for command in commands(name):
        check_order(command.files)
        check_ids(composed([str(ROOT / file) for file in command.files]), dict.fromkeys(command.overrides))


def test_a_command_is_checked_before_the_work(tmp_path: Path) -> None:
    said = complaint("training", TRAIN, output_dir=str(tmp_path / "run"), lerning_rate=1)
    assert said.startswith("--lerning_rate is no id") and not (tmp_path / "run").exists()
    said = complaint("evaluate", EVALUATE, COARSE_ONLY, COARSE_ONLY)
    assert "coarse_only.yaml twice" in said
    assert "a training begins anew" in complaint("training", TRAIN, run_dir=str(tmp_path))
    said = complaint("training", TRAIN, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "run"))
    assert "dataset.json" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "config.yaml").unlink(), "holds no config.yaml: name the folder of a training"),
        (lambda run: (run / "config.yaml").write_text("organs: [liver"), "config.yaml is not whole, it lacks method"),
        (lambda run: (run / "config.yaml").write_text("organs: [liver]"), "config.yaml is not whole, it lacks method"),
        (lambda run: (run / "model.pt").unlink(), "no weights at"),
        (lambda run: other_organs(run), "are for the organs ['spleen', 'right_kidney'"),
    ],
    ids=["no config", "half a config", "other content", "no weights", "other organs"],
)
def test_a_run_that_cannot_be_used_is_named(spoil: Any, said: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("cache", "coarse_maps"))
    spoil(tmp_path / "run")
    paths = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    (tmp_path / "scan.nii.gz").write_bytes(b"never read")
    assert said in complaint("inference", "configs/inference.yaml", run_dir=str(tmp_path / "run"), **paths)


def other_organs(run: Path) -> None:
    content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    (run / "config.yaml").write_text(yaml.safe_dump({**content, "organs": content["organs"][::-1]}), encoding="utf-8")


def test_settings_from_python_stand_beside_a_run_as_those_of_the_command_line_do(tmp_path: Path) -> None:
    trained = {"query_planner::patch_size": 48, "query_planner::threshold": 0.2, "decoder::channels": [8]}
    claim(tmp_path, composed(str(ROOT / TRAIN), **trained).config, {})
    dilated = {"_target_": "scripts.queries.attention.AttentionMap", "dilation": 2}
    stated = {"query_planner::threshold": 0.1, "attention": dilated, "model_path": "other.pt", "run_dir": str(tmp_path)}
    for base in ("inference.json", "evaluate.yaml"):
        running = workflow("command", f"configs/{base}", **stated)
        running.initialize()
        running.run()
        wanted = composed(str(ROOT / "configs" / base), **stated).config
        found = {key: running.parser[key] for key in (*PREDICTOR, "model_path")}
        assert found == {key: wanted[key] for key in found}
        assert (found["query_planner"]["patch_size"], found["query_planner"]["threshold"]) == (48, 0.1)
        assert found["decoder"]["channels"] == [8] and found["attention"] == dilated


def test_a_run_is_evaluated_without_its_overlays(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"dataset_dir": str(tiny_data), "bundle_root": str(ROOT), "device": "cpu", "run_dir": str(trained)}
    for title, files in (("two-stage", [EVALUATE]), ("coarse", [EVALUATE, COARSE_ONLY])):
        named = [str(ROOT / file) for file in files]
        bundle_run("evaluate", config_file=named, output_dir=str(tmp_path / title), **paths)
        printed = capsys.readouterr().out
        assert title in printed and (title == "two-stage" or "two-stage" not in printed)
        scores = (tmp_path / title / "scores.csv").read_text(encoding="utf-8")
        assert len(scores.splitlines()) == 1 + len(ABDOMEN["organs"])


def test_contours_that_do_not_fit_are_listed_and_training_leaves_out_what_is_marked(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, organs = shutil.copytree(trained, tmp_path / "run"), ABDOMEN["organs"]
    maps = maps_by_split(["training"], str(folder), "")["training"]
    cases = load_cases(str(tiny_data), "training", organs)
    for case in cases:  # a network that finds everything, but the liver of the first case at the contour's other side
        label = maps.store.open(case).label
        assert label is not None
        found = torch.stack([label == index for index in range(1, len(organs) + 1)], 1) * 255
        liver = organs.index("liver")
        found[:, liver] = found[:, liver].flip(1) if case is cases[0] else found[:, liver]
        maps.keep(case, found.to(torch.uint8))
    options = ["--dataset_dir", str(tiny_data), "--run_dir", str(folder), "--output", str(tmp_path / "doubts.html")]
    doubts([*options, "--splits", "training"])
    table = pd.read_csv(tmp_path / "doubts.csv", dtype=str, keep_default_na=False)
    name = cases[0]["case"]
    assert table[["exclude", "split", "case", "organ"]].values.tolist() == [["", "training", name, "liver"]]
    page = (tmp_path / "doubts.html").read_text(encoding="utf-8")
    assert f"1. {name}, liver: {table['kind'][0]}" in page and page.count("data:image/jpeg") == 1
    assert "doubts.html: 1 of " in capsys.readouterr().out
    with pytest.raises(ValueError, match="doubts.html is there already"):
        doubts(options)
    other = [*options[:-1], str(tmp_path / "validation.html"), "--splits", "validation"]
    doubts(other)  # by the whole network, which is unsure of everything after four iterations
    unsure = pd.read_csv(tmp_path / "validation.csv")
    assert len(unsure) > 5 and set(unsure["kind"]) == {UNSURE} and set(unsure["split"]) == {"validation"}

    table.assign(exclude="yes").to_csv(tmp_path / "doubts.csv", index=False)
    first, *others = load_cases(str(tiny_data), "training", organs, exclude=str(tmp_path / "doubts.csv"))
    assert set(cases[0]["annotated"]) - set(first["annotated"]) == {"liver"} and others == cases[1:]
    (tmp_path / "wrong.csv").write_text("exclude,case,organ\nyes,nobody,liver\n")
    paths = {
        "dataset_dir": str(tiny_data),
        "output_dir": str(tmp_path / "next"),
        "exclude": str(tmp_path / "wrong.csv"),
    }
    assert "no case 'nobody'" in complaint("training", TRAIN, "configs/data/abdomen.yaml", **paths)
    assert not (tmp_path / "next").exists()


def sure_run(trained: Path, folder: Path) -> Path:
    """A copy of a run whose coarse stage is sure of itself, so that it finds every organ somewhere."""
    shutil.copytree(trained, folder)
    weights = torch.load(folder / "model.pt", weights_only=True)
    last = [key for key in weights if key.startswith("coarse.network.") and weights[key].dim() > 1][-1]
    weights[last] *= 100
    torch.save(weights, folder / "model.pt")
    (folder / "run_manifest.json").unlink()  # it has the hash of the other weights
    return folder


def test_encoders_of_a_run_are_asked_for_the_organs_of_queries(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table = sure_run(trained, tmp_path / "run"), tmp_path / "probe.csv"
    assert probe([str(table), "--dataset_dir", str(tiny_data), "--run_dir", str(folder), "--name", "mine"]) == 0
    frame = pd.read_csv(table)
    asked = frame.groupby(["encoder", "given"])["organ"].apply(list)
    assert len(asked) == 9 and all(organs == asked.iloc[0] for organs in asked)
    assert set(frame["encoder"]) == {"contrastive", "mine", "random"}
    assert len(capsys.readouterr().out.splitlines()) == 2 + 9


def test_signals_of_a_run_are_measured_and_appended(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("development.study.quality.RESAMPLES", 20)
    monkeypatch.setattr("development.study.embedding.OF_TRAINING", 4)
    folder, table = sure_run(trained, tmp_path / "run"), tmp_path / "signals.csv"
    found = measured(str(tiny_data), str(folder), embedding=True)
    assert len(found) >= 2 and np.isfinite(found.select_dtypes("number")).all(axis=None)
    others = [found.assign(fold=0, case=f"p{n}", dice=n / 10, soft_dice=n / 10) for n in range(10)]
    pd.concat(others)[["fold", *found.columns]].to_csv(table, index=False)
    options = [str(table), "--dataset_dir", str(tiny_data), "--run_dir", str(folder), "--embedding", "--fold", "3"]
    assert quality(options) == 0
    appended = pd.read_csv(table).query("fold == 3").drop(columns="fold").reset_index(drop=True)
    pd.testing.assert_frame_equal(appended, found.round(4))
    out = capsys.readouterr().out
    for name in ("estimated Dice", "stage agreement", "contrastive to class", "fine tuned class or background"):
        assert f"| {name} " in out
    (folder / "contrastive.pt").unlink()
    assert "contrastive_to_class" not in measured(str(tiny_data), str(folder), embedding=True)


def test_maps_that_know_the_contours_judge_none(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    options = ["--dataset_dir", str(tiny_data), "--run_dir", str(folder), "--output", str(tmp_path / "doubts.html")]
    shutil.rmtree(folder / "coarse_maps")
    with pytest.raises(ValueError, match="keeps no coarse maps of"):
        doubts(options)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["coarse"]["stage"]["folds"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(ValueError, match="was not trained in two folds or more"):
        doubts(options)


def test_what_is_stated_beside_a_run_wins_over_it(trained: Path) -> None:
    parser = composed(
        [str(ROOT / EVALUATE), str(ROOT / COARSE_ONLY)], str(trained), **{"network_def::coarse_weight": 0}
    )
    assert parser["method"] == "coarse" and parser["network_def::coarse_weight"] == 0
    assert parser["organs"] == trained_config(str(trained))["organs"]
    assert parser["model_path"] == str(trained / "model.pt")


def test_a_run_of_an_older_version_is_named_by_the_configs_of_its_training() -> None:
    files = [str(ROOT / TRAIN), str(ROOT / "configs/data/voc.yaml")]
    for given in (files, str(files)):
        parser = composed(str(ROOT / "configs/inference.yaml"), given)
        assert parser["image_channels"] == 3 and len(parser["organs"]) == 20
        assert parser["model_path"] == "$@bundle_root + '/models/model.pt'"
