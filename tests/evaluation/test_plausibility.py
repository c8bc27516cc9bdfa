"""Scans that are unlike those of training are warned about, in the words of what is wrong."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from development.study.broken import (
    FOLDS,
    INTACT,
    KINDS,
    OTHER,
    TRAINING,
    broken,
    crossed,
    highest,
    main,
    widening,
)
from development.study.quality import auroc
from scripts.evaluation.plausibility import ASPECTS, excess_of, fit, signs_of, warning_of
from scripts.evaluation.quality import EstimateQualityd
from scripts.evaluation.quality import main as fit_command

ORGANS = ["brainstem", "left_parotid", "larynx"]
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def scan(seed: int) -> tuple[MetaTensor, torch.Tensor]:
    """A body in air with three organs [x, y, z] at about the same places."""
    random = np.random.default_rng(seed)
    image = np.full((40, 40, 40), -1000.0)
    image[5:35, 5:35] = random.normal(20, 10, (30, 30, 40))
    labels = np.zeros(image.shape, np.int64)
    for index, (place, hu) in enumerate([((18, 18, 30), 30.0), ((8, 20, 25), -10.0), ((18, 28, 8), 60.0)], start=1):
        x, y, z = np.add(place, random.integers(-1, 2, 3))
        labels[x : x + 5, y : y + 5, z : z + 4 + random.integers(0, 2)] = index
        image[labels == index] = random.normal(hu, 10, (labels == index).sum())
    return MetaTensor(torch.from_numpy(image)[None].float(), affine=AFFINE), torch.from_numpy(labels)


def signs(image: MetaTensor, labels: torch.Tensor, soft: float = 0.9) -> dict[str, Any]:
    return signs_of(image, labels, {organ: soft * bool((labels == n).any()) for n, organ in enumerate(ORGANS, 1)})


@cache
def seen(count: int = 40) -> list[dict[str, Any]]:
    return [signs(*scan(seed), soft=0.88 + 0.02 * (seed % 3)) for seed in range(count)]


def test_signs_of_a_scan_by_hand() -> None:
    image = torch.full((1, 2, 3, 4), -1000.0)
    image[0, :, :, :3] = torch.tensor([0.0, 10.0])[:, None, None]
    labels = torch.zeros(2, 3, 4, dtype=torch.int64)
    labels[1, 1:3, 1] = 2
    found = signs_of(MetaTensor(image, affine=np.diag([2.0, 3.0, 5.0, 1.0])), labels, {"liver": 0.0, "spleen": 0.8})
    spleen: dict[str, Any] = {"soft_dice": 0.8, "volume_ml": pytest.approx(0.06), "mean_hu": 10.0, "cut_off": False}
    spleen["centre_mm"] = [2.0, 4.5, 5.0]
    assert found == {"organs": {"spleen": spleen}, "blank": 0.25, "air": -1000.0, "noise": 10.0}
    image[0, 0, 0, 0] = -3024.0  # a scanner's value outside of its field of view
    assert signs_of(MetaTensor(image), labels, {"liver": 0.0, "spleen": 0.8})["air"] == -1024.0


def test_intact_scans_are_hardly_warned_about() -> None:
    plausible = fit(seen())
    warned = [warning_of(signs(*scan(seed)), plausible) for seed in range(100, 150)]
    assert sum(map(bool, warned)) <= 1
    assert set(plausible["limits"]) == set(plausible["known"]) == set(ASPECTS)


@pytest.mark.parametrize(
    ("kind", "aspect"),
    [("a quarter blank", "blank"), ("HU + 1024", "air"), ("heavy noise", "noise"), ("upside down", "up_down"),
     ("prone", "front_back"), ("mirrored", "left_right")],
)  # fmt: skip
def test_each_break_is_noticed_and_named(kind: str, aspect: str) -> None:
    plausible, (image, labels) = fit(seen()), scan(100)
    spoilt = MetaTensor(broken(image.as_tensor(), kind), affine=AFFINE)
    # A network that finds the organs wherever they are.
    turned = broken(labels[None].float(), kind)[0].long() if kind in ("upside down", "prone", "mirrored") else labels
    found = signs(spoilt, turned)
    assert excess_of(found, plausible)[aspect] > 1
    assert ASPECTS[aspect][0] in warning_of(found, plausible)
    assert "Is the scan complete, upright, in HU" in warning_of(found, plausible)
    assert set(KINDS) >= {kind}


def test_a_scan_without_any_organ_is_noticed() -> None:
    image, labels = scan(100)
    assert ASPECTS["sure"][0] in warning_of(signs(image, torch.zeros_like(labels)), fit(seen()))


def test_a_scan_with_one_of_three_organs_is_noticed_though_that_organ_is_as_expected() -> None:
    image, labels = scan(100)
    assert excess_of(signs(image, labels), plausible := fit(seen()))["found"] == 0
    alone = signs(image, torch.where(labels == 2, labels, 0))
    assert warning_of(alone, plausible).startswith(f"unlike the training scans: {ASPECTS['found'][0]}. ")


def test_surer_scores_are_no_reason_to_warn() -> None:
    assert excess_of(signs(*scan(100), soft=1.0), fit(seen()))["sure"] == 0


def test_too_few_scans_are_refused() -> None:
    with pytest.raises(ValueError, match="14 scans are given, expected 15 or more: segment the training scans"):
        fit(seen(14))


def test_the_warning_reaches_log_meta_data_and_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    for number, one in enumerate(seen()):
        (tmp_path / f"p{number}_statistics.json").write_text(json.dumps({"signs": one}))
    fit_command(["--training_scans", str(tmp_path), "--model_path", str(weights)])
    step, (image, labels) = EstimateQualityd("pred", ORGANS, str(weights)), scan(100)
    scores = torch.nn.functional.one_hot(labels, 1 + len(ORGANS)).permute(3, 0, 1, 2).float()
    image.meta["warnings"] = "an older one"
    intact = step({"case": "anna", "image": image.clone(), "pred": scores})
    assert (
        intact["compared"] and "warnings" not in intact["result"] and intact["image"].meta["warnings"] == "an older one"
    )
    with caplog.at_level(logging.WARNING):
        spoilt = step({"case": "anna", "image": MetaTensor(image + 1024, meta=image.meta), "pred": scores})
    (line,) = spoilt["result"]["warnings"]
    assert line.startswith("anna: unlike the training scans: ") and ASPECTS["air"][0] in line
    assert spoilt["image"].meta["warnings"] == f"an older one\n{line}"
    assert [record.getMessage() for record in caplog.records] == [line]
    some = EstimateQualityd("pred", ORGANS, str(weights), classes=[1])
    assert {"warnings", "compared"}.isdisjoint(
        {**(item := some({"image": image + 1024, "pred": scores})), **item["result"]}
    )
    weights.write_bytes(b"fine-tuned")  # the limits are those of other weights
    assert step({"image": image + 1024, "pred": scores})["compared"] is False


def test_the_command_prints_how_well_each_break_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"case": f"t{n}", "kind": TRAINING, "signs": one} for n, one in enumerate(seen())]
    for seed in range(100, 110):
        image, labels = scan(seed)
        noisy = MetaTensor(broken(image.as_tensor(), "heavy noise", seed), affine=AFFINE)
        rows += [{"case": f"v{seed}", "kind": INTACT, "signs": signs(image, labels)}]
        rows += [{"case": f"v{seed}", "kind": "heavy noise", "signs": signs(noisy, labels)}]
        rows += [{"case": f"o{seed}", "kind": OTHER, "signs": signs(image, torch.zeros_like(labels))}]
    (tmp_path / "signs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([str(tmp_path / "signs.jsonl")]) == 0
    _, _, intact, *kinds, training = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in intact.split("|")[1:4]] == [INTACT, "10", "-"]
    for line, kind in zip(kinds, ("heavy noise", OTHER), strict=True):
        assert kind in line and "1.000 (1.000 to 1.000)" in line and "100.0%" in line
    assert [cell.strip() for cell in training.split("|")[1:4]] == [TRAINING, "40", "-"]


def test_a_training_scan_is_judged_by_limits_of_the_others() -> None:
    rows = [{"signs": one} for one in seen()]
    image, labels = scan(100)
    rows[7] = {"signs": signs(MetaTensor(image + 1024, affine=AFFINE), labels)}
    distances = crossed(rows)
    own = [row["signs"] for number, row in enumerate(rows) if number % FOLDS != 7]
    assert distances[7] == max(excess_of(rows[7]["signs"], fit(own)).values()) > 1
    assert (distances > 1).sum() <= 2


def test_limits_are_widened_by_the_farthest_of_few_training_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("development.study.broken.FOLDS", 3)
    rows = [{"signs": one} for one in seen()]
    image, labels = scan(100)
    rows[7] = {"signs": signs(MetaTensor(image + 1024, affine=AFFINE), labels)}
    assert widening(rows) == crossed(rows).max() > 1
    others = [row for number, row in enumerate(rows) if number % 3]
    of_fold = highest(rows[::3], fit([row["signs"] for row in others])) / widening(others)
    np.testing.assert_allclose(crossed(rows, wider=True)[::3], of_fold)


def test_the_area_counts_pairs_in_the_right_order() -> None:
    assert auroc(np.array([3.0, 1.0]), np.array([2.0, 0.0])) == 0.75
