"""Scans shared by processes of one machine or of many, which know of one another by the output folder only.

A process claims a scan by making a file of its name, and writes there what came of it. It holds a lock that the system
takes back however it ends. So a run's first process clears away what a killed run left, and the last reports for all.
Only torchrun and srun start processes that share: another command, which may have another scan of the same name, waits.
"""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.runtime.processes import launched

DONE = "done"
LOST = "its process ended before it was done (killed, or out of memory?): run the same command again"
POLL_S, MAX_LOST = 0.1, 50
logger = logging.getLogger(__name__)


class SharedScans:
    """What the processes that write into one folder, on a file system that all of them see, tell each other.

    Raises (from joined): ValueError if there are several processes and the file system has no locks.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir, self.folder = Path(output_dir), Path(output_dir) / ".running"
        self.scans = self.folder / "scans"
        self.is_first, self._is_last, self._left, self._shares = True, True, False, launched()[1] > 1
        self._lock: int | None = None

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Take part while the block runs. The first process is alone in it until `open_to_others`."""
        made = [folder for folder in (self.output_dir, *self.output_dir.parents) if not folder.exists()]
        self.is_first, self._is_last, self._left = True, True, False
        self._lock = self._take_lock()
        try:
            if self.is_first:
                shutil.rmtree(self.scans, ignore_errors=True)
                with suppress(OSError):  # a folder that cannot be written to is refused by the manifest
                    self.scans.mkdir(parents=True)
            yield
        finally:
            if self.leave():
                shutil.rmtree(self.folder, ignore_errors=True)
                with suppress(OSError):  # unless something was written
                    for folder in made:
                        folder.rmdir()
            if self._lock is not None:
                os.close(self._lock)

    def open_to_others(self, done: Iterable[str]) -> None:
        """Note scans that an earlier run has done, and let the other processes in."""
        for case in done:
            if self.claim(case):
                self.settle(case)
        if self._lock is not None and self.is_first and self._shares:
            _locked(self._lock, "shared")

    def claim(self, case: str) -> bool:
        """Take a scan, unless another process has or had it."""
        try:
            (self.scans / case).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def settle(self, case: str, outcome: str = DONE) -> None:
        """Say what came of a scan: that it is done, or why it failed."""
        (self.scans / case).write_text(outcome, encoding="utf-8", errors="backslashreplace")

    def done(self) -> list[str]:
        """Scans that are done so far."""
        return [case for case, outcome in self._outcomes().items() if outcome == DONE]

    def failures(self) -> dict[str, str]:
        """Why scans failed, for the last process."""
        return {case: outcome or LOST for case, outcome in self._outcomes().items() if outcome != DONE}

    def leave(self) -> bool:
        """Stop working; return whether this is the last process, which has the folder to itself from here on."""
        if not self._left and self._lock is not None and self._shares:
            _locked(self._lock, "none")  # of two that leave at once, each would see the other's lock
            self._is_last = _locked(self._lock, "alone")
        self._left = True
        return self._is_last

    def _outcomes(self) -> dict[str, str]:
        files = sorted(self.scans.iterdir()) if self.scans.is_dir() else []
        return {path.name: path.read_text(encoding="utf-8") for path in files}

    def _take_lock(self) -> int | None:
        """Lock the folder: alone if nobody works there, else together with the others when the first allows it."""
        path, waiting, lost = self.folder / "lock", False, 0
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                self.is_first = _locked(descriptor, "alone")
                if self.is_first or (self._shares and _locked(descriptor, "shared")):
                    if os.path.samestat(os.fstat(descriptor), path.stat()):
                        return descriptor
                elif not (self._shares or waiting):
                    logger.warning("another command writes to %s: this one waits for its end", self.output_dir)
                    waiting = True
                os.close(descriptor)
            except FileNotFoundError:  # the last process of the run before is just removing the folder
                lost += 1
                if lost > MAX_LOST:  # or it cannot be made, which whoever writes there says
                    return None
            except OSError as error:
                if not self._shares:
                    return None
                lack = f"several processes share scans by file locks, which {self.folder} does not allow ({error})"
                raise ValueError(f"{lack}: give an output folder on another disk, or start one process.") from error
            time.sleep(POLL_S)


def _locked(descriptor: int, how: str) -> bool:
    """Change the lock on a file: "alone", "shared" or "none"; return whether other processes allow it."""
    if sys.platform == "win32":
        raise OSError("Windows")
    import fcntl

    kinds = {"alone": fcntl.LOCK_EX, "shared": fcntl.LOCK_SH, "none": fcntl.LOCK_UN}
    try:
        fcntl.flock(descriptor, kinds[how] | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
