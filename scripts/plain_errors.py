"""Plain errors on the command line: our own complaints end as one sentence, not under MONAI's wrapping tracebacks."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType

OURS = Path(__file__).resolve().parent


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_complaint(error: BaseException) -> bool:
    """Whether an error is a sentence for the user: raised by this bundle about a value or a file."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        isinstance(error, (ValueError, FileNotFoundError))
        and bool(frames)
        and OURS in Path(frames[-1].filename).resolve().parents
    )


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook: a complaint as a sentence, anything else with its whole traceback."""
    cause = root_cause(error)
    if is_complaint(cause):
        print(f"error: {cause}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def install_plain_errors() -> None:
    """Report uncaught errors plainly from here on (first step of every workflow), and keep one false alarm quiet."""
    sys.excepthook = report
    # MONAI warns that a GPU decoder is missing whenever pydicom is installed and any image is loaded.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
