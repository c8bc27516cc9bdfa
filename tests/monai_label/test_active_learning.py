"""The least certain scan is offered first, by the real MONAI Label server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from config_compositions import ROOT

from development.monai_label.client import Client
from development.phantom.dataset import write_phantom_dataset
from development.release.__main__ import main as release
from scripts.monai_label.active_learning import SCORE, STRATEGY, score_of
from scripts.monai_label.environment import FOLDER, monai_of, python_of
from scripts.monai_label.server import NAME, Server, prepare_app

ENVIRONMENT = Path(os.environ.get("AGSCL_MONAI_LABEL", FOLDER))


def post(url: str, **params: Any) -> Any:
    request = urllib.request.Request(
        url, json.dumps(params).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.loads(answer.read())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_score_is_the_mean_soft_dice_with_or_without_an_estimate() -> None:
    assert score_of({"soft_dice": {"a": 0.5, "b": 0.7}, "estimated_dice": {"a": 1.0, "b": 1.0}}) == pytest.approx(0.6)
    assert score_of({"soft_dice": {"a": 0.25}}) == 0.25
    assert score_of({"soft_dice": {}}) == 0.0  # no organ was found
    assert score_of({"label_names": {}}) is None


@pytest.mark.slow
@pytest.mark.skipif(not monai_of(ENVIRONMENT), reason="run `python -m scripts.monai_label.environment` first")
def test_the_server_offers_the_scan_that_it_is_least_sure_of(tmp_path: Path) -> None:
    about = {"name": "Synthetic abdomen", "version": "1.0.0", "authors": "A. Person", "description": "Thirteen organs."}
    about |= {"data_source": "Synthetic.", "licence": str(ROOT / "LICENSE"), "output_dir": str(tmp_path)}
    about["run_dir"] = str(ROOT / "development/synthetic_abdomen")
    assert release(["from_run", *(word for name, value in about.items() for word in (f"--{name}", value))]) == 0
    write_phantom_dataset(str(tmp_path / "data"), 3, 0, 0, in_plane_spacing=(5, 6), slice_spacing=(6, 8))
    studies, workspace = tmp_path / "studies", tmp_path / "workspace"
    shutil.copytree(tmp_path / "data/images", studies)
    images = sorted(path.name.removesuffix(".nii.gz") for path in studies.iterdir())
    prepare_app(tmp_path / "synthetic_abdomen", workspace, python_of(ENVIRONMENT))
    log = tmp_path / "server.log"
    with Server(workspace / "app", str(studies), free_port(), environment=ENVIRONMENT, log=log) as server:
        client, offer = Client(server.url), f"{server.url}/activelearning/{STRATEGY}"
        assert set(client.info()["strategies"]) == {STRATEGY, "first", "random"}
        assert post(offer)["id"] == images[0]  # nothing is known yet
        answers = {image: client.infer(NAME, image, tmp_path / "labels")[1] for image in images[1:]}
        scores = {image: score_of(answer) for image, answer in answers.items()}
        assert all(score is not None and 0 < score < 1 for score in scores.values())
        least = min(scores, key=lambda image: scores[image] or 0.0)
        offered = post(offer)
        assert (offered["id"], offered[SCORE]) == (least, pytest.approx(scores[least]))
        # As a batch, which is a process of its own.
        post(f"{server.url}/batch/infer/{NAME}?images=unlabeled", multi_gpu=False)
        stored, deadline = studies / "datastore_v2.json", time.monotonic() + 600
        while SCORE not in json.loads(stored.read_text())["objects"][images[0]]["image"]["info"]:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(1)
        known = json.loads(stored.read_text())["objects"]
        every = {image: known[image]["image"]["info"][SCORE] for image in images}
        time.sleep(2)  # the server watches the file
        assert post(offer)["id"] == min(every, key=lambda image: every[image])
