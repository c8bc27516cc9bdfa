"""A run as a bundle of its own: code, configs and metadata of this one, predictor, weights and scores of the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from development.release.build import UPLOAD, build_release
from development.release.bundle_files import QUALITY, WEIGHTS, bundle_files
from development.release.half_precision import write_half_precision
from development.release.metadata import METADATA, bundle_name, read_metadata
from development.standalone_configs import write_copies
from scripts.evaluation.quality import calibration_of
from scripts.files.result_files import digest, read_manifest, weights_digest
from scripts.runtime.composition import PREDICTOR, trained_config
from scripts.runtime.resume import load_checkpoint
from scripts.runtime.run_folder import check_weights

PLACES = (
    "bundle_root dataset_dir output_dir cache_dir model_path run_dir device tracking_uri run_name save_execute_config"
).split()
"""Ids of a training that are of its machine; the bundle has those of this one."""
HANDED_OVER = ("train::dataset::data", "train::handlers", "train::trainer::max_epochs", "validate::dataset::data")
"""Ids that MONAI Label sets: files of patients, the weights to begin with, epochs of a fine-tuning."""


@dataclass(frozen=True)
class Identity:
    """What a person says about the bundle; the options of `python -m development.release from_run` describe it."""

    name: str
    version: str
    authors: str
    description: str
    data_source: str
    licence: Path


def build_run_bundle(
    run_dir: Path, root: Path, output_dir: Path, identity: Identity, dtype: str | None = None
) -> tuple[Path, Path]:
    """Write the bundle of a run to `output_dir`/<name>, and its release beside it.

    The run is a finished training, whose scores are those in its ``evaluation``, if there are any. The code is taken
    from the git checkout in `root`. The kernels of the weights get the dtype; None leaves them as they are. Returns the
    folder of the bundle and the folder of the release.

    Raises:
        ValueError: the name or a check of the release does not pass, a folder of this name is there, the training is
            not finished, or the scores are those of other weights.
        FileNotFoundError: no such run, no weights, or no licence.
    """
    run, weights = trained_config(str(run_dir)), run_dir / "model.pt"
    if "_target_: development." in yaml.safe_dump(dict(run)):
        raise ValueError(f"{run_dir} was trained by an overlay that needs a clone of the repository: no bundle has it.")
    metadata = run_metadata(read_metadata(root), run, identity, scores_of(run_dir, weights))
    folder = output_dir / bundle_name(metadata)
    for needed in (weights, identity.licence):
        if not needed.is_file():
            raise FileNotFoundError(f"{needed} does not exist: name a finished training and a licence that are there.")
    if folder.exists():
        raise ValueError(f"{folder} exists: give another --name or --output_dir, or move it away.")
    check_weights(weights)
    require_finished(run_dir, run)
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".") as temporary:
        made = Path(temporary) / folder.name
        for name in bundle_files(root):
            if not fnmatchcase(name, "models/*") and not fnmatchcase(name, "configs/*/*"):
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, made / name)
        shutil.copyfile(identity.licence, made / "LICENSE")
        (made / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        write_configs(made / "configs", run)
        (made / WEIGHTS).parent.mkdir()
        if dtype is None:
            shutil.copyfile(weights, made / WEIGHTS)
        else:
            write_half_precision(weights, made / WEIGHTS, dtype)
        if calibration := calibration_of(weights):  # half precision changes no score by more than it can tell
            content = {**calibration, "weights_sha256": digest(made / WEIGHTS)}
            (made / QUALITY).write_text(json.dumps(content) + "\n", encoding="utf-8")
        # A release packs what git tracks.
        author = ("-c", f"user.name={identity.authors}", "-c", "user.email=")
        for command in (["init", "--quiet"], ["add", "--force", "."], ["commit", "--quiet", "-m", "bundle"]):
            subprocess.run(["git", "-C", str(made), *author, *command], check=True, capture_output=True)
        release = build_release(made, output_dir)
    shutil.unpack_archive(release / UPLOAD / f"{release.name}.zip", output_dir)
    return folder, release


def require_finished(run_dir: Path, run: Mapping[str, Any]) -> None:
    """Raise ValueError for a training that was stopped: a model.pt is there from its first validation on."""
    checkpoint = run_dir / "segmentation.pt"
    if checkpoint.is_file():
        done = load_checkpoint(checkpoint)["epoch"]
        epochs = ConfigParser(dict(run)).get_parsed_content("train::trainer::max_epochs")
        if done < epochs:
            raise ValueError(
                f"{run_dir} holds a training that was stopped after {done} of {epochs} epochs of the segmentation "
                "stage: give its command again, which goes on with it."
            )


def write_configs(folder: Path, run: Mapping[str, Any]) -> None:
    """Put the predictor of a run, by its composed config, into the block of train.yaml, and from there into others."""
    own = yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8"))
    added = [key for key in run if key not in own]  # of a user's overlay; the predictor may refer to them
    block = {key: run[key] for key in (*PREDICTOR, *added)}
    rest = {**{key: value for key, value in run.items() if key not in block}, **{key: own[key] for key in PLACES}}
    parser, original = ConfigParser(deepcopy(rest)), ConfigParser(own)
    if isinstance(parser.get("train::dataset::data"), list):
        parser.update({key: original[key] for key in HANDED_OVER})
    text = f"# >>> predictor\n{yaml.safe_dump(block, sort_keys=False)}# <<< predictor\n"
    text += yaml.safe_dump(dict(parser.get()), sort_keys=False)
    (folder / "train.yaml").write_text(f"# The training of the weights, as it was run.\n\n{text}", encoding="utf-8")
    write_copies(folder)


def run_metadata(
    base: Mapping[str, Any], run: Mapping[str, Any], identity: Identity, scores: Mapping[str, float]
) -> dict[str, Any]:
    """Metadata of the bundle of a run: organs, channels and scores of its own, the versions of this bundle."""
    organs = ["background", *run["organs"]]
    tensors = json.loads(json.dumps(base["network_data_format"]))
    tensors["inputs"]["image"]["num_channels"] = run["image_channels"]
    tensors["outputs"]["pred"]["num_channels"] = len(organs)
    tensors["outputs"]["pred"]["channel_def"] = {str(index): name for index, name in enumerate(organs)}
    return {
        **base,
        "name": identity.name,
        "version": identity.version,
        "changelog": {identity.version: f"trained with {base['name']} {base['version']}"},
        "task": f"Segmentation of {len(organs) - 1} organs in CT",
        "description": identity.description,
        "authors": identity.authors,
        "copyright": f"Copyright (c) {identity.authors}",
        "data_source": identity.data_source,
        "references": base["references"][:2],
        "label_classes": f"single-channel label map, 0 background, 1 to {len(organs) - 1} the organs of channel_def",
        "pred_classes": f"{len(organs)} channels of class scores in [0, 1], whose argmax is the label map",
        "eval_metrics": dict(scores),
        "network_data_format": tensors,
    }


def scores_of(run_dir: Path, weights: Path) -> dict[str, float]:
    """The macro mean Dice of the run's evaluation; nothing where it was not evaluated.

    ValueError for scores of other weights: an evaluation during the training is not one of its result.
    """
    path = run_dir / "evaluation/summary.json"
    if not path.is_file() or not weights.is_file():
        return {}
    made_of = read_manifest(path.parent).get("tables", {}).get(path.name, {}).get("weights_sha256", {})
    if [*made_of.values()] != [weights_digest(weights)]:
        raise ValueError(
            f"{path} is not known to be of {weights}: its folder's manifest names other weights, or none. Delete that "
            "folder and evaluate the run again, or move it away to release without scores."
        )
    mean = json.loads(path.read_text(encoding="utf-8"))["macro_mean"]["dice_mean"]
    return {"macro_mean_dice": round(float(mean), 3)}
