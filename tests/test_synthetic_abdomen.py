"""The weights of the demonstration, which are a run: a real predictor, and unseen scans that anyone can make."""

from __future__ import annotations

from pathlib import Path

import monai.bundle

from development.demo import ROOT, TRAINING
from development.phantom.dataset import write_phantom_dataset
from scripts.evaluation.summary import read_scores
from scripts.runtime.composition import PREDICTOR, composed, trained_config

RUN = ROOT / "development/synthetic_abdomen"


def test_the_demonstration_weights_find_the_organs_of_new_phantoms(tmp_path: Path) -> None:
    # Two phantoms of another seed than those of training: no scan of theirs was seen.
    write_phantom_dataset(str(tmp_path / "data"), training=0, validation=2, test=0, seed=11)
    monai.bundle.run(
        run_id="evaluate",
        config_file=str(ROOT / "configs/evaluate.yaml"),
        run_dir=str(RUN),
        dataset_dir=str(tmp_path / "data"),
        split="validation",
        output_dir=str(tmp_path / "scores"),
    )
    scores = read_scores(tmp_path / "scores/scores.csv")
    assert scores["organ"].nunique() == 13
    assert scores["dice"].mean(skipna=False) > 0.65
    large = scores[scores["organ"].isin(["liver", "spleen", "left_kidney", "right_kidney"])]
    assert large["dice"].min(skipna=False) > 0.8


def test_its_config_is_that_of_the_demonstration() -> None:
    there, now = trained_config(str(RUN)), composed([str(ROOT / name) for name in TRAINING])
    assert {key: there[key] for key in PREDICTOR} == {key: now[key] for key in PREDICTOR}


def test_the_weights_are_small_and_the_bundle_has_no_others_beside_its_own() -> None:
    assert (RUN / "model.pt").stat().st_size < 10 * 2**20
    assert [path.name for path in (ROOT / "models").glob("*.pt")] == ["model.pt"]
