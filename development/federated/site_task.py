"""One task of a FLARE server at a site: train on its own scans or evaluate, by MONAI's client.

    python site_task.py FOLDER      # started by FLARE; the site's settings are in FOLDER/NAME_OF_THE_SITE.json

FLARE starts the script for each task, so that a process that was lost is there again in the next round. Only weights,
the number of iterations and a Dice leave the site.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import nvflare.client as flare
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.app_common.abstract.fl_model import ParamsType

Settings = dict[str, Any]


def client_of(site: str, settings: Settings, number: int, training: bool) -> MonaiAlgo:
    """MONAI's client with what the task needs; every round has batches of its own, and its own learning-rate schedule.

    Args:
        site: its name.
        settings: ``bundle_root``, ``config_file`` (a list, relative to it), and values of the config by id.
        number: of the round.
        training: or evaluation.
    """
    values = {key: value for key, value in settings.items() if key != "config_file"}
    values["seed"] = sum(site.encode()) + 1000 * number
    client = MonaiAlgo(
        bundle_root=values["bundle_root"],
        local_epochs=values["train::epochs"],
        config_train_filename=settings["config_file"] if training else None,
        train_kwargs=dict(values),
        config_evaluate_filename=None if training else settings["config_file"],
        eval_kwargs=dict(values),
    )
    client.initialize(extra={ExtraItems.CLIENT_NAME: site})
    return client


def answer(client: MonaiAlgo, weights: ExchangeObject, training: bool, lost: bool) -> flare.FLModel:
    """Train and return the change of the weights, or return the Dice of the weights as they are."""
    if not training:
        return flare.FLModel(metrics={"dice": float(client.evaluate(weights).metrics["dice"])})
    client.train(weights)
    if lost:
        os.kill(os.getpid(), signal.SIGKILL)
    change = client.get_weights()
    weight = {"NUM_STEPS_CURRENT_ROUND": change.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]}
    return flare.FLModel(params=change.weights, params_type=ParamsType.DIFF, meta=weight)


def main(folder: str) -> None:
    """Do the tasks of the server; in a rehearsal the process dies in the round ``lost_in_round`` of the settings."""
    flare.init()
    site = flare.get_site_name()
    settings = json.loads(Path(folder, f"{site}.json").read_text(encoding="utf-8"))
    lost_in_round = settings.pop("lost_in_round", None)
    os.chdir(settings["bundle_root"])
    sys.path.insert(0, settings["bundle_root"])
    while flare.is_running() and (received := flare.receive()):
        training = flare.is_train()
        client = client_of(site, settings, received.current_round or 0, training)
        lost = training and received.current_round == lost_in_round
        flare.send(answer(client, ExchangeObject(weights=received.params), training, lost))


if __name__ == "__main__":
    main(sys.argv[1])
