"""The FLARE job: what the server does (averages, keeps, evaluates), and what it starts at every site.

Run by the Python of the FLARE environment; ``python -m development.federated`` does so. With ``--export`` the job is
written as the folder that an administrator submits to a real server, and nothing is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nvflare.app_common.widgets.validation_json_generator import ValidationJsonGenerator
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_common.workflows.global_model_eval import GlobalModelEval
from nvflare.app_opt.pt.file_model_locator import PTFileModelLocator
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import ScriptRunner

NAME = "agscl"


def federated_job(model_path: Path, sites: int, rounds: int, settings: Path, python: str) -> FedJob:
    """Federated averaging of the segmentation stage; then every site evaluates the model before and after.

    A round goes on without a site whose process is lost. It takes part again in the next round.
    """
    job = FedJob(NAME, min_clients=sites)
    # The server keeps the whole predictor, and sends the part that is trained.
    persistor = PTFileModelPersistor(source_ckpt_file_full_name=str(model_path))
    persistor.exclude_vars = r"^(?!segmenter\.)"  # the job's file cannot hold the pattern that the class makes of it
    job.to_server(persistor, id="persistor")
    job.to_server(PTFileModelLocator("persistor"), id="locator")
    job.to_server(FedAvg(num_clients=sites, num_rounds=rounds, ignore_result_error=True))
    job.to_server(GlobalModelEval(model_locator_id="locator"))
    job.to_server(ValidationJsonGenerator())
    job.to_clients(
        ScriptRunner(
            script="development/federated/site_task.py",
            script_args=[str(settings)],
            command=[python, "-u"],
            launch_external_process=True,
            launch_once=False,
        )
    )
    return job


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate the job, or write it."""
    parser = argparse.ArgumentParser(prog="python -m development.federated.job", description=__doc__)
    parser.add_argument("--model_path", type=Path, required=True, help="weights to begin with: a state dict")
    parser.add_argument("--sites", nargs="+", required=True, help="names of the sites")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workspace", type=Path, required=True, help="folder of the simulation, or of the job")
    parser.add_argument("--export", action="store_true", help="write the job and do not run it")
    parser.add_argument("--settings", type=Path, required=True, help="at every site: the folder of its NAME.json")
    given = parser.parse_args(arguments)
    python = "python3" if given.export else sys.executable  # an exported job takes the one of the site's PATH
    job = federated_job(given.model_path.absolute(), len(given.sites), given.rounds, given.settings.absolute(), python)
    if given.export:
        job.export_job(str(given.workspace))
    elif failed := job.simulator_run(str(given.workspace), clients=given.sites, threads=len(given.sites)):
        sys.exit(f"the simulation ended with {failed}: see the logs in {given.workspace}.")


if __name__ == "__main__":
    main()
