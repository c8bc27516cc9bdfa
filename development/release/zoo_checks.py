"""The checks of the MONAI model zoo's continuous integration, in its full mode, and some of ours; without a network.

What MONAI checks is left to MONAI: `verify_metadata`, `verify_net_in_out`, `ckpt_export` and `check_properties`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from development.release.file_checks import (
    check_files,
    check_large_files,
    check_pickles,
    check_schema,
    check_sizes,
    check_twins,
    check_version,
)
from development.release.network_checks import (
    check_channels,
    check_net_in_out,
    check_properties,
    check_torchscript,
    check_weights,
)
from scripts.runtime.plain_errors import root_cause

CHECKS: dict[str, Callable[[Path], str]] = {
    "files": check_files,
    "large files": check_large_files,
    "version and changelog": check_version,
    "metadata schema": check_schema,
    "channel names": check_channels,
    "file sizes": check_sizes,
    "one-file configs": check_twins,
    "no pickles": check_pickles,
    "weights fit": check_weights,
    "properties": check_properties,
    "network in and out": check_net_in_out,
    "TorchScript": check_torchscript,
}


def failed_checks(root: Path) -> dict[str, str]:
    """Run every check, say what came of each, and return the failed ones with their reason."""
    failures: dict[str, str] = {}
    quiet_before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # MONAI logs the arguments of every function
    try:
        for title, check in CHECKS.items():
            try:
                print(f"ok      {title}: {check(root)}", flush=True)
            except Exception as error:  # MONAI's checks raise anything; the others shall run all the same
                failures[title] = " ".join(str(root_cause(error)).split()) or type(error).__name__
                print(f"FAILED  {title}: {failures[title]}", flush=True)
    finally:
        logging.disable(quiet_before)
    return failures
