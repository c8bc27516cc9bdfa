"""What every command does first."""

from __future__ import annotations

import logging
import sys

import pytest

from scripts.console import start_command
from scripts.plain_errors import report

REPETITIVE = "monai.data.nvimgcodec_pydicom_plugin"


def test_errors_are_plain_and_what_repeats_itself_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(logging.getLogger(REPETITIVE), "level", logging.NOTSET)
    start_command()
    assert sys.excepthook is report
    assert not logging.getLogger(REPETITIVE).isEnabledFor(logging.WARNING)
