"""The pages of the documentation: their code blocks, the commands and the overlays that they give."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import ROOT, StrictLoader

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.M | re.S)


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of every command, continued lines joined, comments left out."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def own_overlays() -> dict[str, Any]:
    """Overlays that the pages tell the reader to write: the path in the first line of a YAML block, and its content."""
    found = {}
    for page in PAGES:
        for block in blocks(page, "yaml"):
            name = re.match(r"# (configs/mine/\w+\.yaml)\n", block)
            assert name, f"{page.name}: a YAML block begins with the path of its file, got {block.splitlines()[0]!r}"
            found[name[1]] = yaml.load(block, StrictLoader)  # noqa: S506 - a SafeLoader
    return found


def bundle_runs() -> list[Any]:
    """Every `python -m monai.bundle run` of every page: page, run id, config files, overridden ids."""
    runs = []
    for page in PAGES:
        for words in shell_lines(page):
            if words[0] in ("python", "torchrun", "srun") and "monai.bundle" in words:
                words = words[words.index("monai.bundle") + 1 :]
                if words[0] != "run":
                    continue
                options = dict(zip(words[2::2], words[3::2], strict=True))
                given = options.pop("--config_file")
                files = tuple(ast.literal_eval(given)) if given.startswith("[") else (given,)
                name = f"{page.relative_to(ROOT)}: {words[1]} {'+'.join(Path(file).stem for file in files)}"
                runs.append(pytest.param(words[1], files, sorted(o.removeprefix("--") for o in options), id=name))
    return runs
