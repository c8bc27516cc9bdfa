"""Configs put together: files, the predictor of a run, and ids of the command line, which is checked."""

import ast
import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import merge_kv

from scripts.runtime.plain_errors import BUNDLE, install_plain_errors
from scripts.runtime.running_config import config_of, running_command, running_parser

Files = str | Sequence[str]
CONFIG = "config.yaml"  # the composed config of a training, in the folder of the run

PREDICTOR = (
    "method multi_class softmax_queries score_pixels organs one_piece spacing coarse_spacing window image_channels "
    "adjacent_slices coarse_network coarse_segmenter attention query_planner training_planner encoder decoder "
    "segmenter network_def network predictor scores_to_labels inferer"
).split()
"""Ids of the block on the predictor, which a workflow takes over from a run."""

FOLDERS = ("data", "budgets", "baselines", "variants")  # folders of overlays, in the order in which they are merged

NOT_OF_A_CONFIG = {"workflow_name", "workflow_type", "properties_path", "initialize", "finalize", "imports", "note"}


def composed(config_file: Files, run_dir: Files | None = None, **overrides: Any) -> ConfigParser:
    """A base config (with `run_dir` the predictor of that run in it), then overlays in order, then values by id."""
    files = [config_file] if isinstance(config_file, str) else list(config_file)
    parser = ConfigParser(_read(files[0]))
    if run_dir:
        config_of(parser).update(_taken(parser, trained_config(run_dir)))
    for file in files[1:]:
        for key, value in _read(file).items():
            merge_kv(parser, key, value)
    parser.update(overrides)
    return parser


def _read(file: str | Path) -> Any:
    """Content of a config file, as MONAI loads it; YAML in a tenth of the time, where PyYAML has its loader in C."""
    if Path(file).suffix == ".json":
        return ConfigParser.load_config_file(file)
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(Path(file).read_text(encoding="utf-8")).get_single_data()


def trained_config(run_dir: str | Sequence[str]) -> dict[str, Any]:
    """The config that a predictor was trained with; ValueError, FileNotFoundError: no such run, or it is not whole.

    `run_dir` is the folder of the run; of a version without ``config.yaml``, the config files that it was trained with.
    """
    if not isinstance(run_dir, str) or run_dir.startswith("["):
        files = ast.literal_eval(run_dir) if isinstance(run_dir, str) else list(run_dir)
        if missing := [file for file in files if not Path(file).is_file()]:
            raise FileNotFoundError(f"--run_dir names config files that do not exist: {', '.join(missing)}.")
        return dict(ConfigParser.load_config_files(files))
    path = Path(run_dir) / CONFIG
    if not path.is_file():
        old = "--run_dir \"['configs/train.yaml','configs/data/abdomen.yaml']\", and --model_path"
        lack = f"{run_dir} holds no {CONFIG}: name the folder of a training"
        raise FileNotFoundError(f"{lack}; of a run of version 0.9.0 or earlier give the config files as {old}.")
    try:
        # Runs before versions 0.12.0 and 0.15.2 do not say so.
        content = {"softmax_queries": False, "training_planner": "@query_planner", **_read(path)}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError):
        content = {}
    if missing := [key for key in PREDICTOR if key not in content]:
        raise ValueError(f"{path} is not whole, it lacks {', '.join(missing[:3])}: delete it, and train again.")
    return {**content, "model_path": str(Path(run_dir) / "model.pt")}


def _taken(parser: ConfigParser, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Of the config of a run its predictor, its weights, and ids of its own that the predictor may refer to."""
    return {key: value for key, value in trained.items() if key in (*PREDICTOR, "model_path") or key not in parser}


def follow_command(run_dir: str | Sequence[str] | None = None, anew: bool = False) -> None:
    """First step of every workflow: check its command, and take over the predictor of a run, unless it trains one."""
    if run_dir and anew:
        named = f"a training begins anew, and --run_dir {run_dir} names a finished one: leave it out"
        raise ValueError(f"{named}; fine-tune its weights (run run), or go on with a stopped one by its --output_dir.")
    parser, command = running_parser(), running_command()
    if command is not None:
        run_id, files, overrides = command
        check_order(files)
        check_overlays(files, run_dir, [run_id], overrides)
        check_ids(composed(files, run_dir), overrides)
    if run_dir:
        if command is None:  # from Python, of which MONAI keeps no command: what the bundle's configs do not say
            wanted, base = ConfigParser(trained_config(run_dir)), _read(BUNDLE / "configs/train.yaml")
            own = {key: parser[key] for key in (*PREDICTOR, "model_path") if key in parser}
            wanted.update(dict(_changed(own, base)))
        else:
            wanted = composed(files, **{**overrides, "run_dir": run_dir})
        config_of(parser).update(_taken(parser, config_of(wanted)))
        parser.parse()


def _changed(config: Mapping[str, Any], base: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """What a config has other than its base, by id; a component of another target or of fewer arguments whole."""
    for key, value in config.items():
        old: Any = base.get(key)
        same_kind = isinstance(value, Mapping) and isinstance(old, Mapping) and value.keys() >= old.keys()
        if same_kind and value.get("_target_") == old.get("_target_"):
            yield from _changed(value, old, f"{above}{key}::")
        elif key not in base or value != old:
            yield above + key, value


def check_order(files: Sequence[str]) -> None:
    """Refuse config files in another order than base, data, budget, baseline, variant, or one that is there twice."""
    paths = [Path(file) for file in files]
    places = [path.resolve() for path in paths]
    for number, path in enumerate(paths):
        if places[number] in places[:number]:
            raise ValueError(f"--config_file names {path} twice: leave one out.")
    is_base = [{"run", *PREDICTOR} <= _read(path).keys() for path in paths]
    bases = list(compress(paths, is_base))
    if len(bases) > 1:
        raise ValueError(f"--config_file names {bases[1]} after {bases[0]}: each is complete, give one of them.")
    ranks = _ranks(paths, is_base)
    for number, rank in enumerate(ranks[1:], start=1):
        if rank < ranks[number - 1]:
            right = [file for _, file in sorted(zip(ranks, files, strict=True), key=itemgetter(0))]
            order = f"give {_listed(right)} instead of {_listed(files)} (a base config, then {', '.join(FOLDERS)})"
            before = f"{paths[number]} after {paths[number - 1]}, whose values it would replace"
            raise ValueError(f"--config_file names {before}: {order}.")


def require_base() -> None:
    """Refuse a command whose config files are all overlays: a step of overlays, which every base config disables."""
    install_plain_errors()
    command = running_command()
    if command is None or "run" in running_parser():  # the config of a run of an older version lacks this step
        return
    run_id, files, _ = command
    check_order(files)
    base = f"configs/{run_id if run_id in ('inference', 'evaluate') else 'train'}.yaml"
    right = f"give {_listed([base, *files])} instead of {_listed(files)}"
    raise ValueError(f"--config_file names no base config, and {files[0]} overrides one: {right}.")


def _ranks(paths: Sequence[Path], is_base: Sequence[bool]) -> list[int]:
    """Places in the order of merging; an overlay from another folder stays behind the file that it is given after."""
    ranks: list[int] = []
    for path, base in zip(paths, is_base, strict=True):
        folder = path.parent.name
        own = FOLDERS.index(folder) if folder in FOLDERS else ranks[-1] if ranks else 0
        ranks.append(-1 if base else own)
    return ranks


def _listed(files: Sequence[str]) -> str:
    """Config files as the command line takes them."""
    return '"[' + ",".join(f"'{file}'" for file in files) + ']"'


def check_ids(parser: ConfigParser, overrides: Mapping[str, Any]) -> None:
    """Refuse ids that no config states, which MONAI would add without a word, and texts that it would take for true."""
    for written, value in overrides.items():
        key = written.replace("#", "::")
        if value in ("false", "null") and not key.startswith("save_"):  # those understand the text
            meant = {"false": False, "null": None}[value]
            raise ValueError(f"--{written} {value} is a text here, and no text is false: write --{written} {meant}.")
        if str(value).startswith("~") and key != "dataset_dir":
            raise ValueError(f"--{written} {value}: the ~ is not taken for the home folder here: write the whole path.")
        if key in NOT_OF_A_CONFIG or key.startswith("_meta_"):
            continue
        if not knows(parser, key):
            parent = key.rpartition("::")[0]
            arguments = _arguments(parser.get(parent) if parent else None)
            names = [*_ids(config_of(parser)), *(f"{parent}::{one}" for one in arguments)]
            near = difflib.get_close_matches(key, names, 1)
            hint = f", did you mean --{near[0]}?" if near else "."
            raise ValueError(f"--{written} is no id of the config files{hint} All ids: docs/reference/configs.md.")


def check_overlays(
    files: Sequence[str], run_dir: str | Sequence[str] | None = None, known: Sequence[str] = (), more: Any = ""
) -> None:
    """Refuse ids of overlays that are nearly one of those below, which they would not change: MONAI would add them.

    New ids pass that a config or the text of `more` refers to, that a training has, or that are `known`.
    """
    if len(files) == 1:
        return
    content = "".join([Path(file).read_text(encoding="utf-8") for file in files] + [str(more)]).replace("#", "::")
    parser, train = composed(files[0], run_dir), Path(files[0]).with_stem("train")
    training = composed(str(train)) if train.is_file() else parser
    for file in files[1:]:
        for stated, value in _read(file).items():
            for key in _stated_ids(stated.replace("#", "::"), value):
                used = key in (*NOT_OF_A_CONFIG, *known) or re.search(f"[@%]{re.escape(key)}(?!\\w)", content)
                if not (used or knows(parser, key) or knows(training, key)) and (near := _near_miss(parser, key)):
                    raise ValueError(f"{file}: nothing uses {key}, did you mean {near}?")
            merge_kv(parser, stated, value)


def _stated_ids(key: str, value: Any) -> Iterator[str]:
    """The ids that a line of an overlay states; + merges a mapping, whose keys are ids or arguments of a target."""
    if key[0] == "+" and isinstance(value, dict) and "_target_" not in value:
        yield from (f"{key[1:]}::{name}" for name in value)
    yield key.removeprefix("+")


def _near_miss(parser: ConfigParser, key: str) -> str:
    """The id beside a new one that is nearly spelt like it, if there is one."""
    parent, _, name = key.rpartition("::")
    beside = parser.get(parent) if parent else config_of(parser)
    names = beside if isinstance(beside, dict) and name[:1] != "_" else ()
    return next(iter(difflib.get_close_matches(name, names, 1, 0.75)), "")


def knows(parser: ConfigParser, key: str) -> bool:
    """Whether the configs state an id, or it may be a new argument of a component that they state."""
    parent, _, name = key.rpartition("::")
    arguments = _arguments(parser.get(parent) if parent else None)
    return key in parser or name in arguments or "**" in arguments


def _arguments(component: Any) -> set[str]:
    """Names of the arguments of a component; "**" where it takes any."""
    if not isinstance(component, Mapping) or "_target_" not in component:
        return set()
    target = ConfigComponent(config=dict(component), id="", locator=ConfigParser().locator).resolve_module_name()
    target = locate(target) if isinstance(target, str) else target
    if not callable(target):
        return {"**"}
    parameters = inspect.signature(target).parameters.values()
    return {"**" if one.kind is one.VAR_KEYWORD else one.name for one in parameters}


def _ids(config: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield above + key
        if isinstance(value, Mapping):
            yield from _ids(value, f"{above}{key}::")
