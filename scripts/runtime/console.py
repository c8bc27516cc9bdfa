"""What a command of the project does first: plain errors, and a log for people."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from scripts.runtime.plain_errors import install_plain_errors

# MONAI repeats for every image that it opens which optional decoders it did not find.
REPETITIVE_LOGGERS = ("monai.data.nvimgcodec_pydicom_plugin",)


def start_command() -> None:
    """Report errors as sentences, log messages without decoration, and silence what repeats itself for every scan."""
    install_plain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in REPETITIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def bundle_command(run_id: str, configs: Sequence[str], **settings: str) -> list[str]:
    """A `python -m monai.bundle run` command line."""
    files = "[" + ",".join(f"'{config}'" for config in configs) + "]"
    command = ["-m", "monai.bundle", "run", run_id, "--config_file", files]
    for name, value in settings.items():
        command += [f"--{name}", value]
    return command
