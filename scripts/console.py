"""What a command of the project does first: plain errors, and a log for people."""

from __future__ import annotations

import logging

from scripts.plain_errors import install_plain_errors


def start_command() -> None:
    """Report errors as sentences and log messages without decoration."""
    install_plain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
