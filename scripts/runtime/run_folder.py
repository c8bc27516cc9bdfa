"""One folder, one run: its config and the checksums of its weights are kept, and no other run may go on in it."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ignite.distributed import one_rank_first

from scripts.files.atomic_write import write_text
from scripts.files.result_files import bundle_identity, digest, files_of_scan, parts_of, weights_digest
from scripts.runtime.composition import CONFIG
from scripts.runtime.processes import launched, world_size
from scripts.runtime.running_config import running_config

MANIFEST = "run_manifest.json"  # what the run began with, and the checksums of its weights: by name, the newest first

MAY_DIFFER = (
    # where and how fast
    r"bundle_root|dataset_dir|output_dir|cache_dir|model_path|run_dir|device.*|precision|.*\.(num_)?workers",
    r"network_def\.batch_size|coarse_segmenter\.tile|contrastive\.loss\.loss\.gather",
    # what is shown of the training, and where
    r"val_interval|validation_(limit|cases)(\..*)?|validate\.dataset.*|tracking.*|experiment_name|run_(name|folder.*)|save_execute_config",
    # what a training does not read
    r"fine_tuning.*|run|initialize.*",
)
"""Ids, dotted, with which a run may go on at another value."""


class RunPlace:
    """Where objects write that are built before their folder is chosen: fine-tuning moves it before it begins."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)


def placed(path: str | Path, place: RunPlace | None) -> Path:
    """A path, relative to a place if there is one."""
    return Path(path) if place is None else place.folder / path


def claim_run_folder(output_dir: str, training_cases: int, cases: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Create the folder of the run whose config is running, or check that the folder belongs to it (ValueError)."""
    if (started := launched()[1]) != world_size():
        alone = f"{started} processes were started, and each would train alone"
        raise ValueError(f"{alone}: start them by torchrun, with configs/variants/multi_gpu.yaml and without --device.")
    told = [[key, apart_from_place(value)] for case in cases for key, value in case.items()]
    labels = [digest(part) for case in cases for part in parts_of(case.get("label") or "")]  # corrected at equal size
    data, truth = (hashlib.sha256(str(one).encode()).hexdigest()[:12] for one in (told, labels))
    began = {"training_cases": training_cases, "training_data": data, "training_labels": truth}
    with one_rank_first():  # the others then find its config
        return claim(Path(output_dir), running_config(), began)


def apart_from_place(value: Any) -> Any:
    """Name and size of a file in place of its path: data may be moved, and not changed after a stage has used them."""
    path = Path(str(value))
    if path.is_absolute() and path.is_dir():
        return [path.name, [file.stat().st_size for file in files_of_scan(path) if file.name[0] != "."]]
    return [path.name, *([part.stat().st_size for part in parts_of(path)] or [False])] if path.is_absolute() else value


def changed_settings(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Settings that differ, a line each such as "  seed: was 0, now 1", for an error message; empty if none does."""
    keys = [key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)]
    return "\n".join(f"  {key}: was {found.get(key)}, now {wanted.get(key)}" for key in keys)


def claim(folder: Path, config: Mapping[str, Any], began_with: Mapping[str, Any]) -> Path:
    """Do as :func:`claim_run_folder` for a given config; `began_with` are plain values that the run also depends on."""
    path, manifest = folder / CONFIG, _read(folder / MANIFEST, json.loads)
    if path.exists():
        found = _compared(_read(path, yaml.safe_load), {**began_with, **manifest.get("began_with", {})})
        if changed := changed_settings(found, _compared(config, began_with)):
            rest = f"{changed}\nGive another --output_dir, or delete that folder to start again."
            raise ValueError(f"{folder} holds a run with other settings:\n{rest}")
        return folder
    known = manifest or (folder / "settings.json").exists()  # the latter of version 0.9.0
    if (folder / "model.pt").exists() and not known:
        raise ValueError(f"{folder} holds a model.pt that no training of this folder wrote: give another --output_dir.")
    noted = {**manifest, "bundle": bundle_identity().version, "began_with": dict(began_with)}
    write_text(folder / MANIFEST, json.dumps(noted, indent=1) + "\n")
    write_text(path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    return folder


def record_weights(path: Path, written: Path) -> None:
    """Note the checksum of weights, `written` beside their final `path`, if their folder is that of a run."""
    if manifest := _read(path.parent / MANIFEST, json.loads):
        known = manifest.setdefault("sha256", {})
        known[path.name] = [digest(written), *known.get(path.name, [])[:1]]  # the last one, if they never get there
        write_text(path.with_name(MANIFEST), json.dumps(manifest, indent=1) + "\n")


def check_weights(path: Path) -> None:
    """Raise ValueError for weights in the folder of a run that are not those which it wrote."""
    known = _read(path.parent / MANIFEST, json.loads).get("sha256", {}).get(path.name)
    if known and weights_digest(path) not in known:
        other = f"{path} is not the file that the training in {path.parent} wrote ({MANIFEST} has another sha256)"
        raise ValueError(f"{other}: put that file back, or move this one to a folder of its own.")


def flat_settings(value: Any, name: str = "") -> dict[str, Any]:
    """Settings as plain values by dotted name: {"train": {"patch": (64, 64)}} -> {"train.patch": [64, 64]}."""
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {name: json.loads(json.dumps(value))}
    nested = (flat_settings(item, f"{name}.{key}" if name else str(key)) for key, item in value.items())
    return {key: item for settings in nested for key, item in settings.items()}


def _compared(config: Mapping[str, Any], began_with: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return {
        name: value
        for name, value in flat_settings({**config, **began_with}).items()
        if not any(re.fullmatch(pattern, name) for pattern in MAY_DIFFER)
    }


def _read(path: Path, load: Any) -> dict[str, Any]:
    """Content of a file, empty where there is none."""
    try:
        content = load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not whole: delete it, and the run goes on with the settings of the next command.")
    return content
