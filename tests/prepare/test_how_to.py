"""The commands of the how-to pages on cohorts, run in their order on synthetic data with tiny networks."""

from __future__ import annotations

import ast
import glob
import importlib
import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from btcv_cohort import write_btcv
from config_compositions import ROOT
from doc_pages import shell_lines
from monai.utils import set_determinism
from tiny_voc import TINY_VOC, write_voc
from tiny_workflows import TINY_TRAINING, TRAIN, run

from development.phantom.dataset import write_phantom_dataset

HOW_TO = ROOT / "docs/how_to"
FOLDS = ("0", "1")
TINY = {**TINY_TRAINING, "contrastive::epochs": 1, "train::epochs": 1, "coarse::stage::epochs": 1, "val_interval": 1}
TINY |= {"coarse::stage::folds": 1}
for settled in ("organs", "phases"):  # by the configs that a page names
    del TINY[settled]


@pytest.fixture(autouse=True)
def undisturbed_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A folder for the commands; workflows fix random numbers for the whole process."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    set_determinism(seed=None)


def commands(page: str) -> list[list[str]]:
    """The commands of a page; the body of its loop over folds is run for two of them."""
    unrolled: list[list[str]] = []
    body: list[list[str]] | None = None
    for words in shell_lines(HOW_TO / page):
        if words[0] == "for":
            body = []
        elif words[0] == "done":
            unrolled += [[word.replace("$fold", fold) for word in each] for fold in FOLDS for each in body or []]
            body = None
        elif words[0] == "python":
            (unrolled if body is None else body).append(words[2:])
    return unrolled


def run_command(words: list[str], **settings: Any) -> None:
    """A command in this process: a module of the project, or a bundle workflow with the settings of a tiny one."""
    if words[0] != "monai.bundle":
        arguments = [match for word in words[1:] for match in (sorted(glob.glob(word)) if "*" in word else [word])]
        package = importlib.util.find_spec(words[0]).submodule_search_locations is not None  # type: ignore[union-attr]
        status = importlib.import_module(f"{words[0]}.__main__" if package else words[0]).main(arguments)
        assert not isinstance(status, int) or status == 0
        return
    options = dict(zip((word.removeprefix("--") for word in words[3::2]), words[4::2], strict=True))
    named = options.pop("config_file")
    files = ast.literal_eval(named) if named.startswith("[") else [named]
    paths = {name: str(Path(value).absolute()) for name, value in options.items() if "/" in value}
    tiny = TINY if files[0] == TRAIN else {"device": TINY["device"]}
    run(words[2], *files, **{**tiny, **options, **paths, **settings})


def only_found(command: list[str], *words: str) -> bool:
    return all(any(word in part for part in command) for word in words)


@pytest.mark.slow
def test_the_page_on_btcv_leads_from_the_challenges_folders_to_its_submission(tmp_path: Path) -> None:
    write_btcv(tmp_path)
    for command in commands("btcv.md"):
        ensemble = only_found(command, "ensemble.yaml")
        weights = [str(tmp_path / f"runs/btcv/fold{fold}/model.pt") for fold in FOLDS]
        run_command(command, **({"model_path": weights} if ensemble else {}))
    content = json.loads(Path("data/btcv/dataset.json").read_text())
    assert [len(content[split]) for split in ("training", "validation", "test")] == [24, 6, 20]
    assert {path.name for path in Path("runs/btcv").glob("fold*")} == {"fold0", "fold1"}
    with zipfile.ZipFile("runs/btcv/submission.zip") as archive:
        assert archive.namelist() == [f"label{number:04d}.nii.gz" for number in range(61, 81)]


@pytest.mark.slow
def test_the_page_on_ones_own_data_leads_from_folders_to_a_trained_model(tmp_path: Path) -> None:
    write_phantom_dataset(str(tmp_path / "phantom"), 5, 0, 1, in_plane_spacing=(9, 10), slice_spacing=(10, 12))
    labels = json.loads((tmp_path / "phantom/dataset.json").read_text())["labels"]
    (tmp_path / "values.json").write_text(json.dumps({"labels": labels}))
    (tmp_path / "phantom/images").rename(tmp_path / "scans")
    (tmp_path / "phantom/labels").rename(tmp_path / "labels")
    (tmp_path / "labels/phantom_005.nii.gz").unlink()  # an unlabelled scan
    write_phantom_dataset("data/theirs", 2, 1, 0, seed=1, in_plane_spacing=(9, 10), slice_spacing=(10, 12))
    rows = [f"scans/phantom_00{n}.nii.gz,labels/phantom_00{n}.nii.gz,portal_venous" for n in range(5)]
    (tmp_path / "scans.csv").write_text("\n".join(["image,label,phase", *rows]))
    tiny = {key: value for key, value in TINY.items() if key != "device"}
    tiny["coarse::stage::folds"] = 2  # contours are judged by networks that have not seen them
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    for command in commands("own_data.md"):
        if "--values" in command:
            first = command.index("--values")
            last = next((n for n in range(first + 1, len(command)) if command[n].startswith("--")), len(command))
            command[first + 1 : last] = ["values.json"]
        run_command([*command, "--config", "tiny.yaml"] if "--train" in command else command)
    assert Path("runs/mine/model.pt").is_file()
    assert {"dataset.json", "report.html", "cohort.yaml"} <= {path.name for path in Path("data/mine").iterdir()}
    merged = json.loads(Path("data/both/dataset.json").read_text())
    assert {entry["case"].split("_")[0] for entry in merged["training"]} == {"mine", "theirs"}


def test_the_page_on_photographs_leads_from_the_devkits_folder_to_masks_for_its_server(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOCdevkit/VOC2012", train=4, val=2, test=1)
    of_the_user = [command for command in commands("voc.md") if "development.study.iou_table" not in command]
    for command in of_the_user:
        run_command(command, **({**TINY_VOC, "coarse::stage::folds": 1} if "training" in command else {}))
    assert Path("runs/voc/evaluation/iou.csv").is_file()
    results = Path("results/VOC2012/Segmentation/comp5_test_cls")
    assert sorted(path.name for path in results.iterdir()) == ["manifest.json", "test_0.png"]
