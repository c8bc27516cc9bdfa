"""The config and the command of the workflow that is running, and how such a command is written.

MONAI hands no component the whole config. It is found by walking up the callers of a component that is being built,
to the parser that builds it; the command line is found in the same way.
"""

import inspect
import sys
from collections.abc import Mapping, Sequence
from traceback import walk_stack
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.scripts import run, update_kwargs


def config_of(parser: ConfigParser) -> dict[str, Any]:
    """The config of a parser itself, by top-level id."""
    config: Any = parser.config
    return config  # type: ignore[no-any-return]


def running_config() -> dict[str, Any]:
    """The composed config of the running workflow: plain values, expressions as text, no handlers of tracking."""
    config = config_of(running_parser())
    return {key: _plain(value) for key, value in config.items() if key not in ("_meta_", "note")}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        kept = (item for item in value if not isinstance(item, Mapping) or item.get("_target_") != "MLFlowHandler")
        return [_plain(item) for item in kept]
    if isinstance(value, torch.device):
        return f"$torch.device('{value}')"
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def running_parser() -> ConfigParser:
    """The parser that is building the component which calls this; RuntimeError if there is none."""
    for frame, _ in walk_stack(sys._getframe()):
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
    raise RuntimeError("running_parser() is called by a component of a config while it is built.")


def running_command() -> tuple[str, list[str], dict[str, Any]] | None:
    """Run id, config files and overridden ids of the running ``monai.bundle run``; None where there is none."""
    for frame, _ in walk_stack(sys._getframe()):
        if frame.f_code is run.__code__:
            given = frame.f_locals
            named = {"run_id": given["run_id"], "config_file": given["config_file"]}
            stated = update_kwargs(args=given["args_file"], **named, **given["override"])
            files = stated["config_file"]
            overrides = {key: value for key, value in stated.items() if key not in inspect.signature(run).parameters}
            return stated.get("run_id", "run"), [files] if isinstance(files, str) else list(files), overrides
    return None


def bundle_command(run_id: str, configs: Sequence[str], **settings: Any) -> list[str]:
    """Arguments of python that run a workflow: `-m monai.bundle run`, its config files and values by id."""
    files = configs[0] if len(configs) == 1 else "[" + ",".join(f"'{config}'" for config in configs) + "]"
    values = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["-m", "monai.bundle", "run", run_id, "--config_file", files, *values]
