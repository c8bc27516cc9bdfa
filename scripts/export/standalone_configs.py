"""Write the configs that clients open as one file: JSON twins of the YAML configs, put together and without comments.

    python -m scripts.export.standalone_configs            # after a change of configs/*.yaml
    python -m scripts.export.standalone_configs --check    # exit status 1 if a twin is out of step

The YAML files are overlays for people: ``train.yaml`` lies on ``inference.yaml``. MONAI Label, NVFlare and
``monai.bundle.load`` read one file, the last of these JSON only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser

from scripts.files.atomic_write import replacing
from scripts.runtime.plain_errors import install_plain_errors

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TWINS = {
    "inference.json": ("inference.yaml",),
    "train.json": ("inference.yaml", "train.yaml"),
    "evaluate.json": ("inference.yaml", "evaluate.yaml"),
}
NOTE = "written by python -m scripts.export.standalone_configs; edit the YAML configs instead"


def standalone_text(names: Sequence[str], folder: Path = CONFIGS) -> str:
    """JSON text of YAML configs laid on one another in this order, as MONAI does it."""
    merged = ConfigParser.load_config_files([str(folder / name) for name in names])
    return json.dumps({"note": NOTE, **merged}, indent=2, ensure_ascii=False) + "\n"


def out_of_step(folder: Path = CONFIGS) -> list[str]:
    """Names of the twins that are missing or differ from their YAML."""
    return [
        twin
        for twin, names in TWINS.items()
        if not (folder / twin).is_file()
        or (folder / twin).read_text(encoding="utf-8") != standalone_text(names, folder)
    ]


def write_twins(folder: Path = CONFIGS) -> list[str]:
    """Write the twins that are out of step and return their names."""
    written = out_of_step(folder)
    for twin in written:
        with replacing(folder / twin) as temporary:
            temporary.write_text(standalone_text(TWINS[twin], folder), encoding="utf-8")
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.export.standalone_configs", description="Write the one-file JSON configs."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, only say what is out of step")
    check = parser.parse_args(arguments).check
    names = out_of_step() if check else write_twins()
    if not names:
        print("the JSON configs are in step with the YAML configs.")
        return 0
    listed = ", ".join(names)
    print(f"out of step: {listed}; run python -m scripts.export.standalone_configs" if check else f"wrote {listed}")
    return int(check)


if __name__ == "__main__":
    install_plain_errors()
    raise SystemExit(main())
