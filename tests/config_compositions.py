"""The configs as their headers say they are used: which files lie on which, and the command that runs them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
INFERENCE = "configs/inference.yaml"
EVERY_YAML = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml"))
CONFIGS = [name for name in EVERY_YAML if "/study/" not in name]  # a plan of runs is no config of the bundle
BASES = [INFERENCE, "configs/train.yaml", "configs/evaluate.yaml"]
OVERLAYS = [name for name in CONFIGS if name not in BASES]


@dataclass(frozen=True)
class Command:
    """A `python -m monai.bundle run` of a header."""

    run_id: str
    files: tuple[str, ...]
    overrides: tuple[str, ...]


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice; YAML itself keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"{node.start_mark.name}, line {node.start_mark.line + 1}: twice {', '.join(twice)}")
        return super().construct_mapping(node, deep)


def load(name: str) -> dict[str, Any]:
    """One config file as it stands."""
    with (ROOT / name).open(encoding="utf-8") as stream:
        content: dict[str, Any] = yaml.load(stream, StrictLoader)
    return content


def header(name: str) -> str:
    """The comment at the top of a config."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line.lstrip("# ") for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")])


def commands(name: str) -> list[Command]:
    """The commands that a header gives."""
    joined = header(name).replace("\\\n", " ")
    starts = ("python -m monai.bundle run", "torchrun ")
    return [_command(line) for line in joined.splitlines() if line.startswith(starts)]


def _command(line: str) -> Command:
    words = shlex.split(line)
    words = words[words.index("monai.bundle") + 1 :]  # run, its id, its options
    options = dict(zip(words[2::2], words[3::2], strict=True))
    files = options.pop("--config_file")
    names = ast.literal_eval(files) if files.startswith("[") else [files]
    return Command(words[1], tuple(names), tuple(option.removeprefix("--") for option in options))


@cache
def composed(files: tuple[str, ...]) -> ConfigParser:
    """A composition, parsed (ids, references, macros); nothing is instantiated."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in files])
    parser.parse()
    return parser


def compositions() -> list[tuple[str, ...]]:
    """Every list of files that some header names."""
    return sorted({command.files for name in CONFIGS for command in commands(name)})


def leaves(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping and no list, with its id."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from leaves(value, f"{path}::{key}" if path else str(key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from leaves(value, f"{path}::{number}")
    else:
        yield path, content


def components(content: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, with its id."""
    if isinstance(content, dict):
        if "_target_" in content:
            yield path, content
        for key, value in content.items():
            yield from components(value, f"{path}::{key}" if path else str(key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from components(value, f"{path}::{number}")


def references(text: str) -> set[str]:
    """Ids that a string refers to with @ or %."""
    return set(re.findall(r"[@%]([A-Za-z_]\w*(?:::\w+)*)", text)) if text[:1] in "@%$" else set()
