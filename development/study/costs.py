"""What a run cost: time and peak memory of each stage, read from its checkpoints.

python -m development.study.costs runs/mine
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.evaluation.score_tables import markdown_table
from scripts.runtime.plain_errors import install_plain_errors


def stage_costs(output_dir: str | Path) -> dict[str, dict[str, float]]:
    """Epochs, core-seconds, wall seconds and peak memory of each stage, from the checkpoints of a run folder.

    Core-seconds are those of the training process, all threads together; time lost by a kill is not in them.

    Raises:
        FileNotFoundError: the folder holds no checkpoint of a stage.
    """
    stages: dict[str, dict[str, float]] = {}
    for path in sorted(Path(output_dir).glob("*.pt"), key=lambda path: path.stat().st_mtime):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "epoch" in content:
            seconds = float(content.get("seconds", 0.0))
            stages[path.stem] = {
                "epochs": int(content["epoch"]),
                "core_seconds": round(float(content.get("core_seconds", seconds)), 1),
                "wall_seconds": round(seconds, 1),
                "peak_memory_mib": round(float(content.get("peak_mib", 0.0))),
            }
    if not stages:
        raise FileNotFoundError(f"{output_dir} holds no checkpoint of a stage; give the output_dir of a training.")
    return stages


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the costs as a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m development.study.costs", description=__doc__.splitlines()[0])
    parser.add_argument("output_dir", help="folder of a training run")
    body = [
        [name, str(of["epochs"]), f"{of['wall_seconds'] / 60:.1f}", f"{of['peak_memory_mib'] / 2**10:.1f}"]
        for name, of in stage_costs(parser.parse_args(arguments).output_dir).items()
    ]
    print(markdown_table(["stage", "epochs", "minutes", "peak memory, GiB"], body))


if __name__ == "__main__":
    install_plain_errors()
    main()
