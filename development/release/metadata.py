"""What a release reads from configs/metadata.json: text and numbers, never anything that a client would evaluate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METADATA = "configs/metadata.json"
EVALUATED = "$@%"
"""First characters by which MONAI's parser knows expressions, references and macros."""
SHAPE = re.compile(r"[\d\s*np]+")
"""A spatial size as text: numbers, n, p and *; MONAI evaluates it."""
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
VERSION = re.compile(r"\d+\.\d+\.\d+")


def read_metadata(root: Path) -> dict[str, Any]:
    """Read the metadata of a bundle.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON object, or holds what MONAI would evaluate.
    """
    path = root / METADATA
    if not path.is_file():
        raise FileNotFoundError(f"no {METADATA} in {root}: name the root of the bundle with --bundle_root.")
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}).") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} holds a {type(metadata).__name__}, expected an object with the fields of a bundle.")
    refuse_expressions(metadata)
    return metadata


def refuse_expressions(metadata: dict[str, Any]) -> None:
    """Refuse metadata that runs code in a client: MONAI treats its text like that of a config.

    Raises:
        ValueError: an expression, reference, macro or component, named by its place.
    """
    for place, value in _leaves(metadata):
        if isinstance(value, str) and value[:1] and value[0] in EVALUATED:
            raise ValueError(
                f"{METADATA}: {place} begins with {value[0]!r}, which MONAI evaluates: {value[:60]!r}. Metadata is "
                "plain text; begin it with another character."
            )
        if place.rpartition(".")[2] == "_target_":
            raise ValueError(f"{METADATA}: {place} would build an object ({value!r}); remove it.")
        if ".spatial_shape." in place and isinstance(value, str) and not SHAPE.fullmatch(value):
            raise ValueError(f"{METADATA}: {place} is {value!r}, expected a number or a pattern of n, p and *.")


def _leaves(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its place, and every key that is one."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{place}.{key}" if place else key)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _leaves(value, f"{place}.{number}")
    else:
        yield place, content


def bundle_name(metadata: dict[str, Any]) -> str:
    """Name of the bundle's folder and zip: the name in the metadata in lower case with underscores.

    Raises:
        ValueError: a name that MONAI's clients would cut in the wrong place (they split at a dot and at "_v").
    """
    name = str(metadata.get("name", "")).lower().replace(" ", "_")
    if not NAME.fullmatch(name) or "_v" in name:
        raise ValueError(
            f"{METADATA}: the name {metadata.get('name')!r} gives the folder {name!r}; expected letters, digits and "
            "spaces, and no word that begins with v: clients take the text after '_v' for the version."
        )
    return name


def versioned_name(metadata: dict[str, Any]) -> str:
    """Name of a release, `<name>_v<version>`.

    Raises:
        ValueError: the version is not of the form 1.2.3.
    """
    version = str(metadata.get("version", ""))
    if not VERSION.fullmatch(version):
        raise ValueError(f"{METADATA}: the version is {version!r}, expected three numbers such as 1.2.3.")
    return f"{bundle_name(metadata)}_v{version}"
