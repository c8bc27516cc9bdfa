"""The command line of a workflow: unknown ids, misplaced overlays, and the run that it names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import CONFIGS, OVERLAYS, ROOT, commands, load
from monai.bundle import run as bundle_run
from tiny_workflows import ABDOMEN, EVALUATE, TRAIN

from scripts.runtime.composition import check_ids, check_order, composed, trained_config
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
