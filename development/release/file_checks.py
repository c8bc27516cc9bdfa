"""Checks of a bundle's files: what has to be there, what the metadata says, what must not be in a release."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from monai.bundle import verify_metadata

from development.release.archive import refuse_unexpected_pickles
from development.release.bundle_files import LARGE_FILES, WEIGHTS, bundle_files, tracked_files
from development.release.large_files import read_large_files, refuse_changed_files
from development.release.metadata import METADATA, read_metadata, versioned_name
from development.release.model_card import licence_text
from development.standalone_configs import out_of_step

INFERENCE, TRAIN = "configs/inference.json", "configs/train.json"
OWN_SCHEMA = Path(__file__).with_name("metadata_schema.json")
PUBLISHED_SCHEMA = "eval/schema.json"
"""Where the zoo's continuous integration puts the published schema in the bundle."""
LARGEST_MIB = 25
"""Of a committed file, by the rule of the zoo."""
DECIDED = {WEIGHTS: "the weights lie in the bundle, so that a plain clone works without a network"}
"""Larger files that are committed all the same, and why."""


def check_files(root: Path) -> str:
    """Licence, metadata, a config that clients open alone, and weights in the tree or at an address."""
    licence_text(root)
    read_metadata(root)
    for name in (INFERENCE, TRAIN):
        if not (root / name).is_file():
            raise FileNotFoundError(f"no {name}: write it with python -m development.standalone_configs.")
    served = {file.path for file in read_large_files(root)}
    if not (root / WEIGHTS).is_file():
        hint = f"download it (python -m monai.bundle download_large_files --bundle_path {root})" if WEIGHTS in served \
            else f"train and copy it there, or list it in {LARGE_FILES}"  # fmt: skip
        raise FileNotFoundError(f"no {WEIGHTS}: {hint}.")
    return f"{len(bundle_files(root))} files"


def check_large_files(root: Path) -> str:
    """Entries with address and sha256; files that are there are the ones described."""
    files = read_large_files(root)
    refuse_changed_files(root, files)
    return f"{len(files)} entries"


def check_version(root: Path) -> str:
    """The version has an entry in the changelog."""
    metadata = read_metadata(root)
    release = versioned_name(metadata)
    if not metadata.get("changelog", {}).get(metadata["version"]):
        raise ValueError(f"{METADATA}: the changelog has no entry for version {metadata['version']}.")
    return release


def check_schema(root: Path) -> str:
    """The metadata fits the published schema where it is at hand, and our restatement of it elsewhere."""
    if importlib.util.find_spec("jsonschema") is None:
        raise ValueError("the package jsonschema is missing: pip install -r requirements-dev.txt.")
    read_metadata(root)
    published = root / PUBLISHED_SCHEMA
    schema = published if published.is_file() else OWN_SCHEMA
    verify_metadata(meta_file=str(root / METADATA), filepath=str(schema))
    return "published schema" if schema == published else "restated schema"


def check_sizes(root: Path) -> str:
    """No committed file is larger than the zoo allows, unless it is decided and said why."""
    sizes = {name: (root / name).stat().st_size / 2**20 for name in tracked_files(root) if (root / name).is_file()}
    large = {name: round(size) for name, size in sizes.items() if size > LARGEST_MIB}
    undecided = {name: size for name, size in large.items() if name not in DECIDED}
    if undecided:
        raise ValueError(
            f"over {LARGEST_MIB} MiB: {undecided}; serve them with --large_file, or say in DECIDED why not."
        )
    return "; ".join(f"{name} has {size} MiB: {DECIDED[name]}" for name, size in large.items()) or "none is large"


def check_twins(root: Path) -> str:
    """The one-file JSON configs are in step with the YAML configs."""
    if names := out_of_step(root / "configs"):
        raise ValueError(f"{', '.join(names)} out of step: run python -m development.standalone_configs and commit.")
    return "in step"


def check_pickles(root: Path) -> str:
    """No pickle but weights, and those load as weights only."""
    files = bundle_files(root)
    refuse_unexpected_pickles({name: root / name for name in files})
    return f"{sum(name.endswith('.pt') for name in files)} files of weights"
