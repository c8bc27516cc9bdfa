"""Start the MONAI Label server with this bundle; Ctrl-C stops it.

    python -m scripts.monai_label.server --studies SCANS --bundle . --workspace runs/monai_label

The server works on a copy of the bundle, in `WORKSPACE/app/model/NAME`: fine-tuning replaces weights there and never
in the bundle itself. A second start goes on with that copy; delete it to begin with the bundle's weights again.
"""

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from scripts.monai_label.environment import FOLDER, python_of, require
from scripts.runtime.plain_errors import BUNDLE, command_parser

NAME = "agscl_ct_segmentation"
"""Name of the model in clients. MONAI Label reads the kind of task from it: keep "segmentation" in the name."""
NEEDED = ("configs/inference.json", "configs/train.json", "configs/metadata.json", "models/model.pt")
PARTS = ("configs", "scripts", "models", "LICENSE")
STRATEGY = "lib/activelearning/least_certain.py"
HOOK = "\n\nfrom lib.activelearning.least_certain import extend  # by the bundle\n\nextend(MyApp)\n"
START_SECONDS, STOP_SECONDS = 600.0, 30.0


def prepare_app(bundle: Path, workspace: Path, python: Path) -> Path:
    """Put MONAI Label's bundle app and a copy of the bundle in a workspace, where what is there stays; return the copy.

    The app is that of the environment of the interpreter `python`. FileNotFoundError: the bundle lacks what it reads.
    """
    app = workspace / "app"
    copy = app / "model" / NAME
    if copy.exists():
        return copy
    if missing := [file for file in NEEDED if not (bundle / file).is_file()]:
        lack = f"{bundle} has no {', '.join(missing)}, which MONAI Label reads"
        raise FileNotFoundError(f"{lack}: name a complete bundle with --bundle; download weights, or train them.")
    if not (app / STRATEGY).exists():  # what `monailabel apps --download` does; the strategy comes last
        installed, left_out = python.parents[1] / "monailabel/sample-apps/monaibundle", ("logs", "model", "__pycache__")
        shutil.copytree(installed, app, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True)
        with (app / "main.py").open("a", encoding="utf-8") as main_file:
            main_file.write(HOOK)
        shutil.copy2(Path(__file__).with_name("active_learning.py"), app / STRATEGY)
    draft = copy.with_name(f".{NAME}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for source in map(bundle.joinpath, PARTS):
        if source.is_dir():
            shutil.copytree(source, draft / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, draft)
    os.replace(draft, copy)
    return copy


class Server:
    """The MONAI Label server as a context: started on entry, stopped on exit.

    It serves `studies`, a folder of scans or the address of a DICOMweb store, with the app that :func:`prepare_app`
    put in a folder. The default host is reached from this machine only. What it prints goes to the file `log`, or to
    the terminal. What it fetches from a store is kept in `dicomweb`, beside the app.
    """

    def __init__(
        self,
        app: Path,
        studies: str,
        port: int = 8000,
        host: str = "127.0.0.1",
        environment: Path = FOLDER,
        log: Path | None = None,
    ) -> None:
        self.app, self.port, self.log = app.resolve(), port, log
        self.url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        python = python_of(environment.absolute())
        self.command = [str(python), "-m", "monailabel.main", "start_server"]
        self.command += ["--app", str(self.app), "--studies", studies, "--host", host, "--port", str(port)]
        # Nothing is fetched from the network.
        self.command += ["--conf", "models", NAME, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
        kept = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(self.app.parent / "dicomweb")}
        programs = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the one that writes DICOM-SEG
        self.env = {**kept, **os.environ, "PATH": programs}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        """Start the server and wait until it answers; RuntimeError if it ends or does not answer in time."""
        if answers(self.url):
            raise RuntimeError(f"port {self.port} is in use by another server: choose a free one.")
        with nullcontext() if self.log is None else self.log.open("wb") as out:
            # Not in the bundle's folder, whose scripts would be imported instead of the copy's.
            self.process = subprocess.Popen(
                self.command, cwd=self.app, env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.url):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                where = "its messages are above" if self.log is None else f"see {self.log}"
                raise RuntimeError(f"the MONAI Label server did not start: {where}.")
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and what it started."""
        if self.process is None:
            return
        for word in (signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, word)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.process = None


def answers(url: str) -> bool:
    """Whether a server answers there, of MONAI Label or another."""
    try:
        with urllib.request.urlopen(f"{url}/info/", timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    except http.client.HTTPException:
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is interrupted; return the exit status."""
    parser = command_parser("scripts.monai_label.server", __doc__)
    parser.add_argument("--studies", required=True, help="folder of the scans, or the address of a DICOMweb store")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the bundle that this module belongs to")
    parser.add_argument("--workspace", type=Path, default=BUNDLE / "runs" / "monai_label", help="default: %(default)s")
    parser.add_argument("--environment", type=Path, default=FOLDER, help="of the server; default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        if "://" not in given.studies and not Path(given.studies).is_dir():
            raise ValueError(
                f"{given.studies} is no folder: give that of the scans, or the address of a DICOMweb store."
            )
        copy = prepare_app(given.bundle, given.workspace, require(given.environment))
        studies = given.studies if "://" in given.studies else str(Path(given.studies).resolve())
        with Server(given.workspace / "app", studies, given.port, given.host, given.environment) as server:
            print(f"MONAI Label is at {server.url}, model {NAME}. Ctrl-C stops it.", flush=True)
            print(f"The bundle is the copy of the workspace's first start: {copy}", flush=True)
            return server.process.wait() if server.process is not None else 1
    except (ValueError, FileNotFoundError, RuntimeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
