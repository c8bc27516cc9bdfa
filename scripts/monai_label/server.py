"""Start and stop the MONAI Label server with this bundle.

    python -m scripts.monai_label.server --studies SCANS --bundle . --workspace runs/monai_label

The server works on a copy of the bundle, in `WORKSPACE/app/model/NAME`: fine-tuning replaces weights there and never
in the bundle itself. A second start goes on with that copy; delete it to begin with the bundle's weights again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from scripts.monai_label.environment import FOLDER, ROOT, EnvironmentProblem, python_of, require

NAME = "agscl_ct_segmentation"
"""Name of the model in clients. MONAI Label reads the kind of task from it: keep "segmentation" in the name."""
PARTS = ("configs", "scripts", "models", "LICENSE")
START_SECONDS, STOP_SECONDS = 600.0, 30.0


def prepare_app(bundle: Path, workspace: Path, python: Path, name: str = NAME) -> Path:
    """Put MONAI Label's bundle app and a copy of the bundle in a workspace; return the copy.

    Args:
        bundle: folder of the bundle, with its weights in `models/model.pt`.
        workspace: folder of the server; what is there stays.
        python: interpreter of the MONAI Label environment.
        name: name of the model.

    Raises:
        FileNotFoundError: the bundle lacks what MONAI Label reads.
    """
    copy = workspace / "app" / "model" / name
    if copy.exists():
        return copy
    needed = ["configs/inference.json", "configs/train.json", "configs/metadata.json", "models/model.pt"]
    missing = [file for file in needed if not (bundle / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{bundle} has no {', '.join(missing)}, which MONAI Label reads: name the folder of a complete bundle with "
            "--bundle; weights are downloaded with `python -m monai.bundle download_large_files` or trained."
        )
    app = workspace / "app"
    if not (app / "main.py").exists():  # what `monailabel apps --download` does
        shutil.copytree(
            app_of(python), app, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"), dirs_exist_ok=True
        )
    draft = copy.with_name(f".{name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for part in PARTS:
        source = bundle / part
        if source.is_dir():
            shutil.copytree(source, draft / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, draft / part)
    os.replace(draft, copy)
    return copy


def app_of(python: Path) -> Path:
    """MONAI Label's bundle app, which its installation puts beside the packages of the environment."""
    return python.parents[1] / "monailabel" / "sample-apps" / "monaibundle"


class Server:
    """The MONAI Label server as a context: started on entry, stopped on exit.

    Args:
        app: folder of the app, as :func:`prepare_app` makes it.
        studies: folder of the scans, or the address of a DICOMweb store.
        port: port that it listens on.
        host: address it listens on; the default is reached from this machine only.
        environment: folder of the MONAI Label environment.
        log: file for what the server prints; None: the terminal.
        name: name of the model.
    """

    def __init__(
        self,
        app: Path,
        studies: str,
        port: int = 8000,
        host: str = "127.0.0.1",
        environment: Path = FOLDER,
        log: Path | None = None,
        name: str = NAME,
    ) -> None:
        self.app, self.studies, self.port, self.host, self.log = app.resolve(), studies, port, host, log
        options = {"models": name, "zoo_source": "local", "sam2": "false"}  # nothing is fetched from the network
        self.command = [str(python_of(environment.absolute())), "-m", "monailabel.main", "start_server"]
        self.command += ["--app", str(self.app), "--studies", studies, "--host", host, "--port", str(port)]
        for key, value in options.items():
            self.command += ["--conf", key, value]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for clients on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        """Start the server, and wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer in time; names the log.
        """
        if answers(self.url):
            raise RuntimeError(f"port {self.port} is in use by another server: choose a free one.")
        output = None if self.log is None else self.log.open("wb")
        # Not in the bundle's folder, whose scripts would be imported instead of the copy's.
        self.process = subprocess.Popen(
            self.command, cwd=self.app, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        if output is not None:
            output.close()
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.url):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                where = "its messages are above" if self.log is None else f"see {self.log}"
                raise RuntimeError(f"the MONAI Label server did not start: {where}.")
            time.sleep(0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def stop(self) -> None:
        """End the server and what it started."""
        if self.process is None:
            return
        for word in (signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, word)
            try:
                self.process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        self.process = None


def answers(url: str) -> bool:
    """Whether a MONAI Label server answers there."""
    try:
        with urllib.request.urlopen(f"{url}/info/", timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is interrupted; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.monai_label.server", description="Start MONAI Label with this bundle; Ctrl-C stops it."
    )
    parser.add_argument("--studies", required=True, help="folder of the scans, or the address of a DICOMweb store")
    parser.add_argument("--bundle", type=Path, default=ROOT, help="default: the bundle that this module belongs to")
    parser.add_argument("--workspace", type=Path, default=ROOT / "runs" / "monai_label", help="default: %(default)s")
    parser.add_argument("--environment", type=Path, default=FOLDER, help="of the server; default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        prepare_app(given.bundle, given.workspace, require(given.environment))
        studies = given.studies if "://" in given.studies else str(Path(given.studies).resolve())
        with Server(given.workspace / "app", studies, given.port, given.host, given.environment) as server:
            print(f"MONAI Label is at {server.url}, model {NAME}. Ctrl-C stops it.", flush=True)
            return server.process.wait() if server.process is not None else 1
    except (EnvironmentProblem, FileNotFoundError, RuntimeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
