"""The whole method on the embedded example data: make it, train, evaluate, segment an unseen scan, show the result.

    python -m development.demo [--output_dir runs/demo]

Every step is a command that is printed before it runs; copy it for data of your own. A demo that was stopped goes on.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.runtime.plain_errors import install_plain_errors
from scripts.runtime.running_config import bundle_command

ROOT = Path(__file__).resolve().parents[1]
TRAINING = ["configs/train.yaml", "configs/budgets/demo.yaml"]
INFERENCE, EVALUATION = ["configs/inference.yaml"], ["configs/evaluate.yaml"]
COARSE_ONLY = [*EVALUATION, "configs/baselines/coarse_only.yaml"]


def steps(data: str, run: str) -> list[tuple[str, list[str]]]:
    """What the demo does: title and arguments of python, in order."""
    final, coarse = f"{run}/evaluation", f"{run}/evaluation_coarse"
    evaluation = {"dataset_dir": data, "run_dir": run}
    scans = {"dataset_dir": f"{data}/dataset.json", "run_dir": run}
    segmentations = {"output_dir": f"{run}/segmentations", "save_overlay": "true"}
    scores = [f"{coarse}/scores.csv", f"{final}/scores.csv", "--names", "coarse", "final"]
    return [
        ("make the example data: 24 synthetic abdominal CTs", phantom_command(data)),
        (
            "train: coarse, contrastive, segmentation",
            bundle_command("training", TRAINING, dataset_dir=data, output_dir=run),
        ),
        ("score the result", bundle_command("evaluate", EVALUATION, output_dir=final, **evaluation)),
        ("score the coarse stage alone", bundle_command("evaluate", COARSE_ONLY, output_dir=coarse, **evaluation)),
        (
            "segment scans that nothing was trained or chosen on",
            bundle_command("inference", INFERENCE, **scans, **segmentations),
        ),
        ("compare", ["-m", "scripts.evaluation.summary", *scores]),
    ]


def release_command(run: str) -> list[str]:
    """The command that makes a bundle of the run."""
    about = {
        "name": "Synthetic abdomen segmentation",
        "version": "1.0.0",
        "authors": "the demonstration",
        "description": "Thirteen organs of synthetic abdominal CT.",
        "data_source": "24 scans made by development.phantom",
        "licence": "LICENSE",
    }
    words = [word for name, value in about.items() for word in (f"--{name}", value)]
    return ["-m", "development.release", "from_run", "--run_dir", run, "--output_dir", f"{run}/bundle", *words]


def phantom_command(data: str) -> list[str]:
    """The command that makes the example data."""
    return ["-m", "development.phantom", "--output_dir", data]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps; stop at the first that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m development.demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data_dir", default="data/phantom", help="folder of the example data (default: %(default)s)")
    parser.add_argument("--output_dir", default="runs/demo", help="folder of the run (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    for number, (title, command) in enumerate(steps(chosen.data_dir, chosen.output_dir), start=1):
        print(f"\n=== {number}. {title}\n    python {shlex.join(command)}\n", flush=True)
        code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        if code:
            print(f"step {number} ({title}) failed with exit status {code}; the demo goes on there when started again.")
            return code
    minutes = (time.monotonic() - started) / 60
    run = chosen.output_dir
    print(f"\ndone in {minutes:.1f} minutes. Look at {run}/segmentations/*.png and evaluation/dice.png.")
    print(f"To open the result in MONAI Label, make a bundle of it:\n    python {shlex.join(release_command(run))}")
    print(f"and in {run}/bundle/synthetic_abdomen_segmentation follow docs/how_to/monai_label.md:")
    print(f"    python -m scripts.monai_label.server --studies {Path(chosen.data_dir).absolute()}/images")
    return 0


if __name__ == "__main__":
    install_plain_errors()
    sys.exit(main())
