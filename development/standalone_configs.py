"""Write what is stated once and needed in several configs: marked blocks, and the JSON twins of the YAML configs.

    python -m development.standalone_configs            # after a change of configs/**/*.yaml
    python -m development.standalone_configs --check    # exit status 1 if a copy is out of step

A block stands between ``# >>> NAME`` and ``# <<< NAME``. It is written by people in the first file of `BLOCKS`, and
copied into the others, since MONAI's configs cannot include one another: a macro ``%FILE::ID`` is one value, and FILE
is looked up from the working directory. NVFlare and ``monai.bundle.load`` read JSON only, which allows no comments.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from scripts.files.atomic_write import replacing
from scripts.runtime.plain_errors import install_plain_errors

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BLOCKS = {
    "openkbp": ("data/openkbp.yaml", "train.yaml"),
    "predictor": ("train.yaml", "inference.yaml", "evaluate.yaml"),
    "abdominal_organs": ("data/abdomen.yaml", "data/btcv.yaml", "data/btcv_gpu.yaml", "budgets/demo.yaml"),
    "abdomen": ("data/abdomen.yaml", "budgets/demo.yaml"),
    "btcv": ("data/btcv.yaml", "data/btcv_12_organs.yaml"),
    "slices": ("baselines/slice.yaml", "baselines/contrast_without_attention.yaml"),
    "volumes": ("baselines/unet.yaml", "baselines/mednext.yaml", "baselines/swin_unetr.yaml"),
}
"""Files that hold a block, by its name; the first is its source."""

TWINS = {"inference.json": "inference.yaml", "train.json": "train.yaml", "evaluate.json": "evaluate.yaml"}
NOTE = "written by python -m development.standalone_configs; edit the YAML configs instead"


def expected_texts(folder: Path = CONFIGS) -> dict[str, str]:
    """What every generated file should hold, by its name; a release is without some configs."""
    names = [name for files in BLOCKS.values() for name in files if (folder / name).is_file()]
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in names}
    generated = {}
    for block, files in BLOCKS.items():
        source, *copies = [name for name in files if name in texts] or [""]
        pattern = re.compile(rf"(?<=^# >>> {block})[^\n]*\n.*?(?=^# <<< {block}$)", re.M | re.S)
        for name in copies:
            found = pattern.search(texts[source])
            if found is None:
                raise ValueError(f"{source} has no block between '# >>> {block}' and '# <<< {block}'.")
            body = f": a copy of {source}'s\n" + found[0].partition("\n")[2]
            generated[name] = texts[name] = pattern.sub(body.replace("\\", r"\\"), texts[name])
    for twin, name in TWINS.items():
        content = {"note": NOTE, **yaml.safe_load(texts[name])}
        generated[twin] = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return generated


def out_of_step(folder: Path = CONFIGS) -> list[str]:
    """Names of the files that are missing or differ from what they are made of."""
    files = {folder / name: text for name, text in expected_texts(folder).items()}
    wrong = [file for file, text in files.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    return [file.relative_to(folder).as_posix() for file in wrong]


def write_copies(folder: Path = CONFIGS) -> list[str]:
    """Write the files that are out of step and return their names."""
    texts, written = expected_texts(folder), out_of_step(folder)
    for name in written:
        with replacing(folder / name) as temporary:
            temporary.write_text(texts[name], encoding="utf-8")
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m development.standalone_configs", description="Write the copied blocks and the JSON configs."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, only say what is out of step")
    check = parser.parse_args(arguments).check
    names = out_of_step() if check else write_copies()
    if not names:
        print("the configs are in step.")
        return 0
    listed = ", ".join(names)
    print(f"out of step: {listed}; run python -m development.standalone_configs" if check else f"wrote {listed}")
    return int(check)


if __name__ == "__main__":
    install_plain_errors()
    raise SystemExit(main())
