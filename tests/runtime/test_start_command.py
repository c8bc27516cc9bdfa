"""What every command does first."""

from __future__ import annotations

import logging
import sys

import pytest

from scripts.runtime.plain_errors import REPETITIVE_LOGGERS, report, start_command


def test_errors_are_plain_and_what_repeats_itself_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for name in REPETITIVE_LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    start_command()
    assert sys.excepthook is report
    assert not any(logging.getLogger(name).isEnabledFor(logging.WARNING) for name in REPETITIVE_LOGGERS)
