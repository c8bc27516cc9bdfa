"""The quality score: soft Dice by hand, its calibration, and for which weights that counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from config_compositions import ROOT
from monai.data import MetaTensor

from development.study.quality import held_out, main, measures, plain_signals
from scripts.evaluation.quality import EstimateQualityd, calibration_of, estimate, fit, read_signals, soft_dice
from scripts.evaluation.quality import main as fit_command
from scripts.files.result_files import FORMAT
from scripts.inference.scan_evaluator import settings_of

ORGANS = ["liver", "spleen"]


def scores(*liver: float) -> torch.Tensor:
    """Class scores [class, x, y, z] of a row of voxels, with no spleen."""
    organs = torch.tensor([liver, [0.0] * len(liver)])
    return torch.cat([1 - organs.amax(dim=0, keepdim=True), organs])[:, :, None, None].half()


def results(patients: int = 12) -> pd.DataFrame:
    """The Dice is the square of the soft Dice; that of the spleen is .1 less."""
    rows = [
        {"case": f"p{n:02d}", "organ": organ, "soft_dice": soft, "dice": soft**2 - 0.1 * (organ == "spleen")}
        for n, soft in enumerate(np.linspace(0.4, 1.0, patients).tolist())
        for organ in ORGANS
    ]
    return pd.DataFrame(rows)


def write_scores(folder: Path, frame: pd.DataFrame) -> None:
    """Files of cases as an evaluation leaves them."""
    folder.mkdir()
    for case, of_case in frame.assign(prediction_ml=3.0).groupby("case"):
        (folder / f"{case}_dice.json").write_text(json.dumps(of_case.to_dict("records")))


def columns(frame: pd.DataFrame) -> Any:
    return [frame[name].tolist() for name in ("organ", "soft_dice", "dice")]


def test_soft_dice_is_twice_the_scores_in_the_voxels_by_voxels_and_all_scores() -> None:
    # .9 and .6 win against the background, .2 does not.
    liver, spleen = soft_dice(scores(0.9, 0.6, 0.2))
    assert liver == pytest.approx(2 * 1.5 / (2 + 1.7), abs=1e-3)
    assert spleen == 0.0


def test_sure_scores_have_a_soft_dice_of_one_and_hesitant_ones_less() -> None:
    assert soft_dice(scores(1.0, 1.0, 0.0))[0] == 1.0
    assert soft_dice(scores(0.9, 0.9, 0.1))[0] > soft_dice(scores(0.6, 0.6, 0.4))[0]


def test_the_estimate_follows_the_dice_and_knows_the_organ() -> None:
    calibration = fit(*columns(results()))
    liver, spleen = (np.array(estimate(calibration, [organ] * 3, [0.5, 0.7, 0.9])) for organ in ORGANS)
    assert np.abs(liver - np.array([0.25, 0.49, 0.81])).max() < 0.06
    assert (liver - spleen) == pytest.approx([0.1 * 12 / 17] * 3, abs=1e-9)  # 5 results at 0 hold the offset back


def test_noise_cannot_make_a_better_signal_mean_a_worse_dice() -> None:
    noise = np.random.default_rng(0)
    signal = noise.uniform(size=100)
    calibration = fit(["liver"] * 100, signal.tolist(), noise.uniform(size=100).tolist())
    assert (np.diff(calibration["dice"]) >= 0).all() and (np.diff(calibration["soft_dice"]) >= 0).all()


def test_a_calibration_counts_for_its_own_weights_only(tmp_path: Path) -> None:
    weights = tmp_path / "run" / "model.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    write_scores(tmp_path / "evaluation", results())
    image = MetaTensor(torch.zeros(1, 3, 1, 1))
    item = {"case": "anna", "image": image, "pred": scores(0.9, 0.6, 0.2)}
    step = EstimateQualityd("pred", ORGANS, str(weights))
    before = settings_of(step)
    soft = {"liver": pytest.approx(0.811, abs=1e-3)}  # the spleen was not found
    assert step(item)["result"] == {"soft_dice": soft}
    fit_command([str(tmp_path / "evaluation"), "--model_path", str(weights)])
    assert step(item)["result"] == {"soft_dice": soft, "estimated_dice": {"liver": pytest.approx(0.66, abs=0.05)}}
    assert EstimateQualityd("pred", ORGANS, [str(weights)])(item)["result"] == {"soft_dice": soft}
    assert settings_of(EstimateQualityd("pred", ORGANS, str(weights))) != before, "scans are segmented again"
    fitted = weights.with_name("quality.json").read_text()
    weights.write_bytes(b"other weights")
    assert calibration_of(weights) == {} and step(item)["result"] == {"soft_dice": soft}
    weights.with_name("quality.json").write_text('{"dice": []}')
    assert calibration_of(weights) == {}
    weights.with_name("quality.json").write_text(fitted[:-9])
    with pytest.raises(ValueError, match="calibration .*quality.json is not valid JSON"):
        step(item)


@pytest.mark.parametrize("option", [[], ["--training_scans"]], ids=["evaluation", "training scans"])
def test_results_of_other_weights_are_no_measure_of_these(option: list[str], tmp_path: Path) -> None:
    weights, made_with = tmp_path / "model.pt", {"model.pt": "0" * 64}
    weights.write_bytes(b"weights")
    write_scores(tmp_path / "evaluation", results())
    cases = {"p01": {"weights_sha256": made_with, "results": {}}}
    manifest = json.dumps({"format": FORMAT, "cases": cases})
    (tmp_path / "evaluation" / "manifest.json").write_text(manifest)
    with pytest.raises(ValueError, match="evaluation: p01 was segmented with other weights than .*model.pt"):
        fit_command(["--model_path", str(weights), *option, str(tmp_path / "evaluation")])
    assert not (tmp_path / "quality.json").exists()


def test_a_calibration_of_other_weights_in_the_folder_is_kept_and_nothing_makes_none(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(name.encode())
    write_scores(tmp_path / "evaluation", results())
    fit_command([str(tmp_path / "evaluation"), "--model_path", str(tmp_path / "a.pt")])
    kept = (tmp_path / "quality.json").read_text()
    with pytest.raises(ValueError, match="quality.json is of other weights in this folder"):
        fit_command([str(tmp_path / "evaluation"), "--model_path", str(tmp_path / "b.pt")])
    with pytest.raises(SystemExit):
        fit_command(["--model_path", str(tmp_path / "a.pt")])
    assert (tmp_path / "quality.json").read_text() == kept


def test_only_wanted_organs_have_a_signal() -> None:
    data = {"pred": scores(0.9, 0.6, 0.2), "image": MetaTensor(torch.zeros(1, 3, 1, 1))}
    assert EstimateQualityd("pred", ORGANS, classes=[2])(data)["result"]["soft_dice"] == {}
    assert list(EstimateQualityd("pred", ORGANS, classes=[1])(data)["result"]["soft_dice"]) == ["liver"]


def test_scores_without_a_signal_are_refused(tmp_path: Path) -> None:
    write_scores(tmp_path / "old", results().drop(columns="soft_dice"))
    with pytest.raises(ValueError, match="have the soft Dice of 0 results, at least 8 are needed: give output folders"):
        read_signals([str(tmp_path / "old")])


def test_measures_of_a_signal_by_hand() -> None:
    dice, organ = np.array([0.2, 0.5, 0.7, 0.9]), np.array([0, 0, 0, 1])
    # Bad are .2 and .5. Of the four pairs with a good one, (.5, .7) is in the wrong order.
    area, ranks, within, error = measures(np.array([0.1, 0.6, 0.5, 1.0]), dice, organ)
    assert (area, ranks, within) == (0.75, pytest.approx(0.8), pytest.approx(0.5))
    assert error == pytest.approx((0.1 + 0.1 + 0.2 + 0.1) / 4)


def test_the_study_estimates_by_the_others_and_prints_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("development.study.quality.RESAMPLES", 50)
    frame = results(20)
    spoilt = frame.assign(dice=frame["dice"].where(frame["case"] != "p03", 0.9))
    own = (frame["case"] == "p03").to_numpy()
    assert held_out(frame, "case")[own] == pytest.approx(held_out(spoilt, "case")[own])
    frame.assign(entropy=-frame["soft_dice"]).to_csv(tmp_path / "signals.csv", index=False)
    assert main([str(tmp_path / "signals.csv")]) == 0
    heading, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert heading == f"40 results in 20 scans, {int((frame['dice'] < 0.6).sum())} with a Dice below 0.6"
    assert "AUROC, Dice < 0.6" in head
    assert [row.split("|")[1].strip() for row in rows] == ["estimated Dice", "soft dice", "entropy"]
    assert "1.00 (1.00 to 1.00)" in rows[0]


def test_what_a_signal_adds_to_the_estimate_is_seen_on_the_patients_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("development.study.quality.RESAMPLES", 50)
    random, frame = np.random.default_rng(0), results(20)
    error = random.normal(0, 0.1, len(frame))
    frame = frame.assign(dice=np.clip(frame["dice"] + error, 0, 1), error=error, noise=random.normal(size=len(frame)))
    plain, knowing, guessing = (held_out(frame, "case", name) for name in (None, "error", "noise"))
    far = [np.abs(estimates - frame["dice"]).mean() for estimates in (plain, knowing, guessing)]
    assert far[1] < 0.6 * far[0] and far[2] > 0.9 * far[0]
    frame.to_csv(tmp_path / "signals.csv", index=False)
    assert main([str(tmp_path / "signals.csv"), "--add", "error"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[4:]]
    assert rows == ["estimated Dice", "estimated Dice and error", "soft dice", "error", "noise"]


def test_the_stored_signals_of_btcv_tell_good_from_bad_in_the_fold_left_out() -> None:
    frame = pd.read_csv(ROOT / "docs/results/btcv/signals.csv.xz")
    organ, dice = pd.factorize(frame["organ"])[0], frame["dice"].to_numpy()
    area, ranks, within, error = measures(held_out(frame, "fold"), dice, organ)
    assert area >= 0.9 and ranks >= 0.8 and within >= 0.5 and error <= 0.08


def test_the_calibration_of_the_shipped_weights_is_theirs() -> None:
    assert calibration_of(ROOT / "models/model.pt")["organs"].keys() >= {"brainstem", "larynx"}


def test_signals_of_a_result_by_hand() -> None:
    # Three voxels win against the background (.9, .85, .6), the coarse stage finds the first two and the last.
    network, coarse = scores(0.9, 0.85, 0.6, 0.3, 0.0), scores(0.7, 0.7, 0.1, 0.1, 0.9)
    truth = torch.tensor([1, 1, 0, 1, 0])[:, None, None]
    (found,) = plain_signals(network, coarse, truth).values()
    entropy = -sum(p * np.log(p) + (1 - p) * np.log(1 - p) for p in (0.9, 0.85, 0.6, 0.3))
    expected = {"dice": 2 / 3, "mean_probability": 2.35 / 3, "uncertain_share": -2 / 3, "stage_agreement": 2 / 3}
    assert found == pytest.approx(expected | {"soft_dice": 4.7 / 5.65, "entropy": -entropy / 3}, abs=2e-3)
    assert plain_signals(network, coarse, torch.full_like(truth, 2)) == {}  # the liver is not there, no spleen is found
