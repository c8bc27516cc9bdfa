"""A federated training by NVIDIA FLARE on this machine: a server and three sites with synthetic scans of their own.

    python -m development.federated --output_dir runs/federated        # 3 minutes of CPU time

The sites begin with the coarse stage of a trained run and an untrained segmentation stage, which they train together.
In the first round the training process of one site is killed; it takes part in the second. At the end every site
evaluates the model of the beginning and the averaged one on scans that were not trained on.

FLARE (``nvflare``) runs in an environment of its own, ``.venv-flare``, which is made if it is missing; it takes torch
and MONAI from the Python that runs this.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from development.phantom.dataset import write_phantom_dataset
from scripts.evaluation.score_tables import markdown_table
from scripts.inference.weights import load_weights
from scripts.monai_label.environment import failure_of, pip_install, python_of
from scripts.runtime.composition import CONFIG, composed
from scripts.runtime.plain_errors import install_plain_errors
from scripts.runtime.resume import load_checkpoint, save_weights

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-flare"
NVFLARE = "nvflare==2.9.0"
START = "start.pt"
AVERAGED = "FL_global_model.pt"


def make_environment(folder: Path = FOLDER) -> Path:
    """The interpreter of the environment, which is made if it is missing; ValueError if that failed."""
    python = python_of(folder)
    check = f"from importlib.metadata import version; assert version('nvflare') == {NVFLARE.split('==')[1]!r}"
    if not python.exists() or failure_of(python, check):
        print(f"making {folder} (100 MB)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.check_output(ask, encoding="utf-8").strip())
        (own / "of_the_bundle.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        if not pip_install(python, NVFLARE):
            raise ValueError(f"{NVFLARE} could not be installed: see above. Run the same command to try again.")
    return python


def write_start(run_dir: Path, path: Path) -> None:
    """The weights to begin with: those of a run, in full precision, and an untrained segmentation stage."""
    network: nn.Module = composed(str(run_dir / CONFIG)).get_parsed_content("network_def")
    load_weights(network, run_dir / "model.pt")
    torch.manual_seed(0)
    for module in network.get_submodule("segmenter").modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    save_weights(network.state_dict(), path)


def write_site(folder: Path, number: int, name: str, settings: Mapping[str, Any], spacing: Sequence[float]) -> None:
    """The scans of a site, three to train on and one to evaluate on, and its settings for ``site_task``."""
    (data := folder / name).mkdir(parents=True, exist_ok=True)
    in_plane, slices = (spacing[0], spacing[1]), (spacing[2], spacing[3])
    write_phantom_dataset(str(data / "scans"), 3, 1, 0, 100 + number, in_plane, slices, partial_fraction=0.0)
    own = {**settings, "dataset_dir": str(data / "scans"), "output_dir": str(data / "run")}
    (folder / f"{name}.json").write_text(json.dumps(own, indent=1), encoding="utf-8")


def keep_averaged(saved: Path, start: Path, path: Path) -> None:
    """Keep the averaged predictor as the bundle reads it: a state dict, of the types that it had."""
    averaged, types = load_checkpoint(saved)["model"], load_checkpoint(start)
    save_weights({name: value.to(types[name].dtype) for name, value in averaged.items()}, path)


def answers_of_rounds(log: str) -> list[int]:
    """How many sites each round got an answer of, from the log of the server."""
    rounds = re.split(r"Round \d+ started", log)[1:]
    return [len(re.findall(r"Aggregated \d+/\d+ results", text)) for text in rounds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rehearsal and print its table."""
    parser = argparse.ArgumentParser(prog="python -m development.federated", description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/federated"), help="a new folder")
    parser.add_argument("--run_dir", type=Path, default=ROOT / "development/synthetic_abdomen", help="of a training")
    parser.add_argument("--sites", nargs="+", default=["north", "south", "west"], help="names")
    parser.add_argument("--lost", default="west", help="site whose process is killed in the first round")
    parser.add_argument("--iterations", type=int, default=20, help="of an epoch; a round has two")
    spacing = "smallest and largest pixels, then slices, of the scans in mm"
    parser.add_argument("--spacing", type=float, nargs=4, default=[3.0, 3.4, 4.5, 5.0], help=spacing)
    given = parser.parse_args(arguments)
    folder, run_dir = given.output_dir.absolute(), given.run_dir.absolute()
    folder.mkdir(parents=True)
    python = make_environment()
    write_start(run_dir, folder / START)
    settings = {
        "bundle_root": str(ROOT),
        "config_file": [str(run_dir / CONFIG), "configs/variants/federated.yaml"],
        "model_path": str(folder / START),
        "train::epochs": 2,  # of a round: the learning rate rises in the first and falls in the second
        "train::epoch_length": given.iterations,
        "train::batch_size": 16,
    }
    for number, name in enumerate(given.sites):
        lost = {"lost_in_round": 0} if name == given.lost else {}
        write_site(folder / "sites", number, name, {**settings, **lost}, given.spacing)
    job = [str(python), "-m", "development.federated.job", "--model_path", str(folder / START)]
    job += ["--sites", *given.sites, "--workspace", str(folder / "flare"), "--settings", str(folder / "sites")]
    with open(folder / "flare.log", "w", encoding="utf-8") as log:
        if subprocess.run(job, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode:
            raise RuntimeError(f"the simulation failed: see {log.name}.")
    server = folder / "flare/server"
    keep_averaged(server / "simulate_job/app_server" / AVERAGED, folder / START, folder / "model.pt")
    results = json.loads((server / "simulate_job/cross_site_val/cross_val_results.json").read_text(encoding="utf-8"))
    dice = {site: [results[site][f"SRV_{model}"]["dice"] for model in (START, AVERAGED)] for site in given.sites}
    dice["mean"] = [sum(column) / len(dice) for column in zip(*dice.values(), strict=True)]
    print(markdown_table(["site", "Dice before", "after"], [[s, *(f"{d:.3f}" for d in ds)] for s, ds in dice.items()]))
    answered = answers_of_rounds((server / "log.txt").read_text(encoding="utf-8"))
    print(f"sites that answered in each round: {', '.join(map(str, answered))} of {len(given.sites)}")


if __name__ == "__main__":
    install_plain_errors()
    main()
