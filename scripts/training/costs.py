"""What a run cost: time and peak memory of each stage, read from its checkpoints.

python -m scripts.training.costs runs/mine
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.runtime.plain_errors import install_plain_errors


def stage_costs(output_dir: str) -> list[tuple[str, int, float, float]]:
    """For each checkpoint of a run folder: stage, epochs, minutes, largest memory of the process in GiB.

    Raises:
        FileNotFoundError: the folder holds no checkpoint of a stage.
    """
    costs = []
    for path in sorted(Path(output_dir).glob("*.pt"), key=lambda path: path.stat().st_mtime):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "epoch" in content:
            minutes, memory = content.get("seconds", 0.0) / 60, content.get("peak_mib", 0.0) / 2**10
            costs.append((path.stem, int(content["epoch"]), minutes, memory))
    if not costs:
        raise FileNotFoundError(f"{output_dir} holds no checkpoint of a stage; give the output_dir of a training.")
    return costs


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the costs as a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m scripts.training.costs", description=__doc__.splitlines()[0])
    parser.add_argument("output_dir", help="folder of a training run")
    print("| stage | epochs | minutes | peak memory, GiB |\n|:--|--:|--:|--:|")
    for stage, epochs, minutes, memory in stage_costs(parser.parse_args(arguments).output_dir):
        print(f"| {stage} | {epochs} | {minutes:.1f} | {memory:.1f} |")


if __name__ == "__main__":
    install_plain_errors()
    main()
